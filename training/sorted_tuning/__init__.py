"""Sorted fine-tuning (SoFT, arXiv 2309.08968) and exit blocks (Balcony, arXiv 2503.05005) for LLaMA-family models."""
