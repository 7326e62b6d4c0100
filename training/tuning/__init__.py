"""Tuning a vision-language model as a captioner, a judge or a reward, from the store or from files of the field."""
