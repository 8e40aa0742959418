"""`attnpool app`: a page on this machine to look into networks: drop an image in, click a place of it."""

import errno
import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import TemporaryDirectory
from typing import Any, NoReturn

import rich

from attnpool.accounting.budget import BYTES, parse_amount
from attnpool.jobs._checkpoint import load_either
from attnpool.jobs._survival import Stopped
from attnpool.visualise.class_activation import need_grad_cam


def app(
    checkpoint: list[str],
    *,
    host: str = "127.0.0.1",
    port: int | None = None,
    max_upload: str = "20MB",
    browser: bool = False,
) -> NoReturn:
    """Serve a page that shows what networks say of an image, and what they look at, until Ctrl-C.

    An image is dropped in; a click on it, or on any map, shows what that place attends to; of several checkpoints two
    are beside each other. Needs pip install attnpool[app]. Images stay on this machine, in a temporary folder that is
    deleted at the end; nothing else is written.

    Args:
        checkpoint: Folders of the checkpoints, of classifiers or detectors; the first two are shown at first.
        host: Address to listen at: of this machine alone, or 0.0.0.0 for all who can reach it.
        port: Port to listen at; by default the first free one from 7860.
        max_upload: Size of the largest image file that is taken, in bytes, kB or MB.
        browser: Open the page in the browser, too.

    Raises:
        CheckpointError: for a checkpoint that cannot be read.
        ValueError: for an argument that breaks its rule.
        OSError: if the port is taken, or the address is not one of this machine.
        ImportError: if gradio or grad-cam is not installed.
    """
    if port is not None and not 0 < port <= 65535:
        raise ValueError(f"port has to be from 1 to 65535, but got {port}")
    largest = parse_amount("max_upload", max_upload, BYTES)
    _check_free(host, port or 0)
    need_grad_cam()
    models = {folder: load_either(folder) for folder in checkpoint}
    with _own_folder(), _sigterm_stops():
        page = _page(models, max_upload)
        _, url, _ = page.launch(
            server_name=host,
            server_port=port,
            max_file_size=largest,
            inbrowser=browser,
            prevent_thread_lock=True,
            quiet=True,
            share=False,
            ssr_mode=False,
            run_history=False,
            mcp_server=False,
            footer_links=[],
        )
        rich.console.Console(stderr=True).print(
            f"attnpool: {url} shows {', '.join(models)}; Ctrl-C ends it", markup=False, soft_wrap=True
        )
        try:
            threading.Event().wait()
        finally:
            page.close(verbose=False)
    raise AssertionError("only a signal ends it")


def _check_free(host: str, port: int) -> None:
    """Refuse an address that cannot be listened at, before anything is loaded."""
    try:
        socket.create_server((host, port)).close()
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise OSError(f"port has to be free, but {port} is taken") from error
        raise OSError(f"host has to be an address of this machine, but got {host}: {error}") from error


def _page(models: dict[str, Any], max_upload: str) -> Any:
    try:
        from attnpool.jobs._app_page import make_page
    except ImportError as error:
        raise ImportError(f"the app needs gradio: pip install attnpool[app] ({error})") from error
    return make_page(models, max_upload)


@contextmanager
def _own_folder() -> Iterator[None]:
    """A folder of its own for all that gradio writes, gone at the end."""
    before = dict(os.environ)
    with TemporaryDirectory(prefix="attnpool-app-") as folder:
        own = {"GRADIO_TEMP_DIR": folder, "GRADIO_ANALYTICS_ENABLED": "False", "GRADIO_SHARE": "False"}
        os.environ.update(own)
        try:
            yield
        finally:
            os.environ.clear()
            os.environ.update(before)


@contextmanager
def _sigterm_stops() -> Iterator[None]:
    """SIGTERM ends what is within as Ctrl-C does."""

    def stop(signum: int, frame: Any) -> NoReturn:
        raise Stopped("stopped", signum)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
