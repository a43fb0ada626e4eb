"""How the shipped tiny models were made, and how they are measured. Nothing at run time imports this."""
