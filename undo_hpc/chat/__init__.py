"""How a chat is written and read: the forms of reasoning, chat templates without torch, and the text a student learns."""
