"""Reports: an `Evaluation` as one HTML file to read and as plots for papers.

page.py        the file as a whole, and the data its script draws from
tables.py      headings, tables and captions: all that is there with scripts off
exhibits.py    single files that are shown
pictures.py    which part of a picture is shown, and as which bytes
sounds.py      the same of a sound
films.py       the same of a video
appearance.py  names, numbers and colours, for the page and the plots
plots.py       PNG and SVG, by matplotlib
assets/        template, style and scripts, put together by page.py
"""

from codec.evaluation.report.exhibits import Decoded, Exhibit
from codec.evaluation.report.page import write_report
from codec.evaluation.report.plots import write_plots

__all__ = ["Decoded", "Exhibit", "write_plots", "write_report"]
