"""What runs inside a Dask worker: it hands bundles to scorer processes and brings their outcomes back."""
