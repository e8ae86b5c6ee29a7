"""Evaluation of retrieval with binary codes: ranking metrics, reports, a scorer and displays."""

from ._comparison import RetrievalComparison, compare_hashers
from ._curves import MetricCurveDisplay, PrecisionCurveDisplay, PrecisionRecallDisplay
from ._radius import precision_recall_by_radius, precision_within_radius
from ._ranking import (
    average_precisions,
    chance_level,
    leave_one_out_map,
    mean_average_precision,
    metric_curve,
    ndcg_at_k,
    precision_at_k,
    precision_curve,
    recall_at_k,
)
from ._report import RetrievalReport, report_from_codes, retrieval_report
from ._scorer import retrieval_scorer
from ._sheet import NeighborsDisplay

__all__ = [
    "MetricCurveDisplay",
    "NeighborsDisplay",
    "PrecisionCurveDisplay",
    "PrecisionRecallDisplay",
    "RetrievalComparison",
    "RetrievalReport",
    "average_precisions",
    "chance_level",
    "compare_hashers",
    "leave_one_out_map",
    "mean_average_precision",
    "metric_curve",
    "ndcg_at_k",
    "precision_at_k",
    "precision_curve",
    "precision_recall_by_radius",
    "precision_within_radius",
    "recall_at_k",
    "report_from_codes",
    "retrieval_report",
    "retrieval_scorer",
]
