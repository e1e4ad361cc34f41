"""Presidio's finds, for benchmarks/quality/pii.py: JSON lines {text} in, {spans, seconds} out.

    PEER_PYTHON benchmarks/quality/pii_peer.py < texts.jsonl     in an environment with presidio-analyzer

A blank English spaCy model: the recognisers of patterns and checksums, no model of language.
"""

import json
import logging
import sys
import time

ENTITIES = {
    "EMAIL_ADDRESS": "email",
    "PHONE_NUMBER": "phone",
    "CREDIT_CARD": "card",
    "IBAN_CODE": "iban",
    "IP_ADDRESS": "ip",
    "US_SSN": "national_id",
    "US_ITIN": "national_id",
    "UK_NHS": "national_id",
}


def engine() -> object:
    import spacy
    from presidio_analyzer import AnalyzerEngine
    from presidio_analyzer.nlp_engine import SpacyNlpEngine

    class Blank(SpacyNlpEngine):
        def load(self) -> None:
            self.nlp = {"en": spacy.blank("en")}

    blank = Blank(models=[{"lang_code": "en", "model_name": "blank"}])
    blank.load()
    return AnalyzerEngine(nlp_engine=blank, supported_languages=["en"])


def main() -> None:
    logging.disable(logging.CRITICAL)
    analyzer = engine()
    analyzer.analyze("a@b.com +1 415 555 2671", language="en", entities=list(ENTITIES))
    for line in sys.stdin:
        text, began = json.loads(line)["text"], time.process_time()
        found = analyzer.analyze(text, language="en", entities=list(ENTITIES))
        seconds = time.process_time() - began
        spans = [(ENTITIES[r.entity_type], r.start, r.end) for r in found]
        sys.stdout.write(json.dumps({"spans": spans, "seconds": seconds}) + "\n")


if __name__ == "__main__":
    main()
