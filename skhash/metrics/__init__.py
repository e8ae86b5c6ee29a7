"""How well binary codes retrieve: ranking metrics, reports, a scorer, displays."""

from ._displays import NeighborsDisplay, PrecisionCurveDisplay, PrecisionRecallDisplay
from ._ranking import (
    average_precisions,
    chance_level,
    leave_one_out_map,
    mean_average_precision,
    precision_at_k,
    precision_curve,
    precision_recall_by_radius,
    precision_within_radius,
    recall_at_k,
)
from ._report import RetrievalReport, report_from_codes, retrieval_report
from ._scorer import retrieval_scorer

__all__ = [
    "NeighborsDisplay",
    "PrecisionCurveDisplay",
    "PrecisionRecallDisplay",
    "RetrievalReport",
    "average_precisions",
    "chance_level",
    "leave_one_out_map",
    "mean_average_precision",
    "precision_at_k",
    "precision_curve",
    "precision_recall_by_radius",
    "precision_within_radius",
    "recall_at_k",
    "report_from_codes",
    "retrieval_report",
    "retrieval_scorer",
]
