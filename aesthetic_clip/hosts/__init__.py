"""Adapters, one per host; only the demonstration's lab imports one as well."""
