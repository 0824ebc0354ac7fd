"""Pictures of items, fetched and checked."""
