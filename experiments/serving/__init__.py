"""The parts of the server: the engine that generates texts, the format of requests, and the web application."""
