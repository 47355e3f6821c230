"""Stages that reorder ranked candidates: freshness ▸ calibration ▸ diversity ▸ caps. Exploration (`recsys.lists.policy`) follows them."""
