"""Sources to Parquet to tensors. Fetching and preparing need no torch, but for the features of pretrained encoders."""
