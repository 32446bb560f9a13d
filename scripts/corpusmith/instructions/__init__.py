"""The instructions recipe: instructions of a model or of people, responses, their selection, and preference pairs."""
