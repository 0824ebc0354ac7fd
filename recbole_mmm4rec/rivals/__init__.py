"""Other sequential models by name, written anew from their papers on our data and operators (docs/rivals.md)."""
