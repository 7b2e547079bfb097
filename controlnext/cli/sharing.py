"""Who reaches the page, and what they may do there beside making pictures and videos."""

from __future__ import annotations

from dataclasses import dataclass

from controlnext.errors import ControlNeXtError

LOCAL_HOSTS = ("127.0.0.1", "localhost", "::1")


class AuthError(ControlNeXtError, ValueError):
    """A name and password that cannot be used."""


@dataclass(frozen=True)
class Sharing:
    """Who reaches the page and what strangers may do.

    Attributes:
        host: address that is listened on.
        public: whether the whole internet reaches it: a share link or a Space.
        password: whether a name and a password are asked for.
        training: whether strangers may start trainings.
        uploads: whether strangers may add LoRAs to the library.
    """

    host: str = "127.0.0.1"
    public: bool = False
    password: bool = False
    training: bool = False
    uploads: bool = False

    @property
    def here_alone(self) -> bool:
        """Whether this machine alone reaches the page; then it may name folders of the disk."""
        return self.host in LOCAL_HOSTS and not self.public

    @property
    def may_train(self) -> bool:
        """Whether the page starts trainings."""
        return self.here_alone or self.training

    @property
    def may_upload(self) -> bool:
        """Whether the page adds LoRAs to the library."""
        return self.here_alone or self.uploads

    def sentence(self) -> str:
        """Say in one line what others can see and do; empty where nobody else reaches the page."""
        if self.here_alone:
            return ""
        whom = "Everyone on the internet" if self.public else f"Everyone who reaches {self.host}"
        who = f"{whom} with the password" if self.password else whom
        can = ["make pictures and videos on this machine", "see the names of its models and LoRAs"]
        can += ["start, see and stop trainings"] if self.training else []
        can += ["add LoRAs to its library"] if self.uploads else []
        off = [] if self.training else ["trainings (--allow-training)"]
        off += [] if self.uploads else ["LoRA uploads (--allow-uploads)"]
        said = f"{who} can {_listed(can)}, but not see files, uploads or results of others."
        said += f" Off: {_listed(off)}." if off else ""
        return said if self.password else f"{said} --auth user:password asks for a password."


def _listed(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def read_auth(values: list[str]) -> list[tuple[str, str]] | None:
    """Take names and passwords apart.

    Args:
        values: as `user:password` each; the password may hold colons.

    Returns:
        The pairs, or None where there are none.

    Raises:
        AuthError: one has no name, or no password.
    """
    pairs = []
    for value in values:
        user, _, password = value.partition(":")
        if not user.strip() or not password.strip():
            raise AuthError("--auth takes user:password, with a colon between and neither of them empty.")
        pairs.append((user.strip(), password.strip()))  # as Gradio's login reads them
    return pairs or None
