"""The console command ``mmm4rec``: one table of all commands, and ``doctor``."""
