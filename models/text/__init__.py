"""Text as tokens: chats, vocabularies, where a step ends, what must not occur."""
