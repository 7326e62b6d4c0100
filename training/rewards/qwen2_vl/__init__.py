"""Parts of rewards that read a score from a hidden state of Qwen2-VL: HPSv3 and VideoAlign."""
