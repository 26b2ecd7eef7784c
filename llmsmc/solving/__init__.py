"""From a question and settings to an answer."""
