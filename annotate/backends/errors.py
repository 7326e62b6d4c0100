"""What a person can mend about an annotator's model."""


class AnnotatorError(Exception):
    """A model cannot be loaded or asked as the recipe says; the message is a sentence that says what to do."""
