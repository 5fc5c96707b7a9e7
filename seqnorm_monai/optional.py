"""An optional package, or the line that installs it."""

from importlib import import_module
from types import ModuleType


def require(module: str, extra: str) -> ModuleType:
    """Import a module of an optional package.

    Args:
        module: its full name, such as ``matplotlib.figure``; the package is the part before the first dot.
        extra: the extra of this project that installs the package.

    Raises:
        ImportError: if the package is not installed; the message names it and the command that installs it. What goes
            wrong inside an installed package is raised as it is, because installing it again would not help.
    """
    package = module.partition(".")[0]
    try:
        import_module(package)
    except ModuleNotFoundError as error:
        if error.name != package:
            raise
        message = f"the optional package {package} is not installed: pip install 'seqnorm-monai[{extra}]'"
        raise ModuleNotFoundError(message, name=package) from error
    return import_module(module)
