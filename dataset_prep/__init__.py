"""Makes RecBole atomic files and feature stores: ``python -m dataset_prep --help``."""
