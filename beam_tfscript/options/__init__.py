"""Arguments of the transforms, declared once, and the checked options that are made of them."""
