"""Amazon's dumps of reviews and items."""
