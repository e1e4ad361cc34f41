"""A packaged expert over HTTP: `POST /v1/extract`, the chat API of OpenAI, and a page."""
