"""Runs a notebook from its first cell to its last and keeps it with its output.

    python execute.py [NOTEBOOK [OUTPUT]]     PostgreSQL by libpq's variables; status 1 if a cell fails

Owns what is kept: the output, and nothing that differs from run to run without meaning anything.
"""

import os
import sys
import tempfile

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from traitlets.config import Config

HERE = os.path.dirname(os.path.abspath(__file__))


def execute(source, target):
    notebook = nbformat.read(source, as_version=4)
    with tempfile.TemporaryDirectory() as sockets:
        # the kernel is talked to through sockets in a folder that nobody else can enter
        config = Config({"KernelManager": {"transport": "ipc", "ip": os.path.join(sockets, "kernel")}})
        client = NotebookClient(
            notebook, timeout=600, kernel_name="python3", record_timing=False, config=config, resources={"metadata": {"path": HERE}}
        )
        try:
            client.execute()
        except CellExecutionError as error:
            sys.exit(f"{source}: {error}")
        finally:
            notebook.metadata.pop("language_info", None)
            nbformat.write(notebook, target)


if __name__ == "__main__":
    source = sys.argv[1] if len(sys.argv) > 1 else os.path.join(HERE, "exploratory_analysis.ipynb")
    execute(source, sys.argv[2] if len(sys.argv) > 2 else source)
