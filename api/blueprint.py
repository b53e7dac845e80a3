"""The blueprint that every resource uses."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from flask import Response
from flask_smorest import Blueprint as _Blueprint

from api.body import StrictParser

View = Callable[..., Response]


class Blueprint(_Blueprint):  # type: ignore[misc]
    """flask-smorest's blueprint, parsing strictly."""

    ARGUMENTS_PARSER = StrictParser()

    def decisions(self, path: str, record: str, make: Callable[[str], View], says: Mapping[str, str]) -> None:
        """POST {path}/{decision} for each decision, as make(decision); says: decision → its summary."""
        for decision, summary in says.items():
            view = make(decision)
            view.__doc__ = summary
            self.add_url_rule(f"{path}/{decision}", f"{decision}_{record}", view, methods=["POST"])
