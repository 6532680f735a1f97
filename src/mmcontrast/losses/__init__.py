"""Losses and mixing as pure functions of tensors. Knows no dataset, no model and no trainer."""
