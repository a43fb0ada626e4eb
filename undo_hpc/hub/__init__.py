"""Publishing on the Hugging Face Hub: what (contents), with which cards, how (push), and when by itself (auto)."""
