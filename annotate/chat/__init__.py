"""Asking chat models: questions and answers, servers and engines that answer, prompts, and parsing of answers."""
