"""Records of runs as tables, plots and one page."""

from dropact.report.collect import collect
from dropact.report.tables import MethodResult, Report, Table
from dropact.report.terminal import show
from dropact.report.write import write_report

__all__ = ["MethodResult", "Report", "Table", "collect", "show", "write_report"]
