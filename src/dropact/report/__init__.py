"""Records of runs as tables, plots and one page."""

from dropact.report.collect import Report, Row, Table, collect
from dropact.report.terminal import show
from dropact.report.write import write_report

__all__ = ["Report", "Row", "Table", "collect", "show", "write_report"]
