"""Finds out whether a folder holds a suite or a study, and makes its page."""

import os
from pathlib import Path

from jaxpg.scores.study_file import STUDY_FILE, read_study
from jaxpg.scores.suite_file import SUITE_FILE, read_suite
from jaxpg.viewing.charts import Chart
from jaxpg.viewing.study_page import study_page
from jaxpg.viewing.suite_page import suite_page


def page_of_folder(folder: Path) -> tuple[str, list[Chart]] | None:
    """Makes the page of the suite or the study in a folder, and its charts; None where the folder holds neither.

    Raises:
      UserError: the results cannot be read.
    """
    if os.path.isfile(folder / SUITE_FILE):  # unlike Path.is_file, it never raises OSError
        return suite_page(read_suite(folder / SUITE_FILE), _name(folder))
    if os.path.isfile(folder / STUDY_FILE):
        return study_page(read_study(folder / STUDY_FILE), _name(folder))
    return None


def _name(folder: Path) -> str:
    return folder.resolve().name.encode("utf-8", "backslashreplace").decode()  # the name may be any bytes
