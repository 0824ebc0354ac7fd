"""From user vectors to lists: ranking and neighbours."""
