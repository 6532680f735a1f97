"""Sources to Parquet to tensors. Fetching and preparing need no torch; only `loading` imports it."""
