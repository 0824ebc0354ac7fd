"""How the network is made fast: operators that give what the plain formulas give."""
