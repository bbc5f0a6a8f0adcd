"""REST routes for the library, under the WebUI's API and its rules."""

from __future__ import annotations

import base64
import contextlib
import secrets
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

from fastapi import APIRouter, Depends, FastAPI, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from fastapi.security import HTTPBasic, HTTPBasicCredentials
from modules import call_queue, shared
from pydantic import BaseModel

from ...create.limits import MAX_SENT, check_count, checked_batch_size
from ...create.sources import Source
from ...embeddings import profiles
from ...embeddings.embedding import Embedding
from ...embeddings.library import Library
from ...embeddings.profiles import Opinion
from ...errors import AestheticError, Interrupted, Remedy
from ...pages.forms import checked_text
from ...printable import printable
from ...spaces import PUBLISHED, Space, space_named
from . import looking, options
from .families.encoders import loaded_model, model_spaces
from .image_encoders import image_encoder
from .jobs import show_progress
from .remedies import REMEDIES

# An API's caller has no tab to tick anything on.
_REMEDIES = {
    **REMEDIES,
    Remedy.DOWNLOAD: "Name its path in Settings > Aesthetic Gradients, or have it downloaded once by the tab "
    "Create aesthetic embedding.",
    Remedy.OVERWRITE: "Send overwrite as true, or choose another name.",
}

PREFIX = "/aesthetic-gradients/v1"
MAX_BYTES = 256 * 2**20


LONGEST_NOTE = 1000


class CreateRequest(BaseModel):
    """Body of ``POST /embeddings``."""

    name: str
    images: list[str]
    """base64 of picture files, with or without a data URL's head"""
    spaces: list[str] = []
    """CLIP spaces, e.g. ViT-L/14; empty: those of the loaded checkpoint"""
    batch_size: int = 16
    """pictures per step of the encoder, 1 to 256"""
    overwrite: bool = False
    raw: bool = False
    note: str = ""
    """at most 1,000 letters"""


class PictureRequest(BaseModel):
    """Body of the requests with a single picture."""

    image: str
    """base64 of a picture file, with or without a data URL's head"""
    name: str = ""
    """what people know it by, at most 200 letters; empty: that it was sent"""


class _Route(APIRoute):
    """Answers what can't be a request with a sentence, and stops reading one that is larger than its images may be."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def limited(request: Request) -> Response:
            # Before the body, which FastAPI reads before it asks who sent it.
            if _accounts() and (given := await HTTPBasic()(request)) is not None:
                _check(given)
            read = 0

            async def receive() -> Any:
                nonlocal read
                message = await request.receive()
                read += len(message.get("body", b""))
                if read > MAX_BYTES * 4 // 3 + 2**20:
                    raise HTTPException(413, f"The request is too large. One request takes {MAX_BYTES >> 20} MB.")
                return message

            try:
                return await handle(Request(request.scope, receive))
            except RequestValidationError as error:
                raise HTTPException(422, _sentence(error)) from error
            except (UnicodeError, RecursionError) as error:
                raise HTTPException(422, "The request can't be read. It has to be JSON in UTF-8.") from error

        return limited


def register(_demo: Any, app: FastAPI) -> None:
    """Add the routes if the WebUI's API is on (callback ``on_app_started``)."""
    if shared.cmd_opts.api or shared.cmd_opts.nowebui:
        # As they are: include_router would make each of them once more.
        app.router.routes.extend(_router().routes)


def _router() -> APIRouter:
    router = APIRouter(
        prefix=PREFIX,
        tags=["Aesthetic Gradients"],
        dependencies=[Depends(_check)] if _accounts() else [],
        route_class=_Route,
    )

    @router.get("/embeddings")
    def list_embeddings() -> list[dict[str, Any]]:
        found = []
        for entry in options.embeddings().entries():
            try:
                found.append(_described(entry.load()))
            except AestheticError as error:
                found.append({"name": entry.name, "error": printable(_told(error))})
        return found

    @router.get("/embeddings/{name:path}")
    def inspect_embedding(name: str) -> dict[str, Any]:
        with _answered():
            return _described(_existing(name).load(name))

    @router.post("/embeddings")
    def create_embedding(request: CreateRequest) -> dict[str, Any]:
        # Here, so that the WebUI starts without it.
        from ...create.pictures import create, save_result

        with _answered():
            library = options.embeddings()
            name = library.reserve(checked_text("Name", LONGEST_NOTE)(request.name), request.overwrite)
            note = checked_text("Note", LONGEST_NOTE)(request.note)
            batch_size = checked_batch_size(request.batch_size)
            wanted = _spaces(request.spaces)
            pictures = _pictures(request.images)
            with call_queue.queue_lock, contextlib.ExitStack() as stack:
                shared.state.begin(job="aesthetic embedding")
                stack.callback(shared.state.end)
                spaces = wanted or list(model_spaces(loaded_model()))
                encoders = [stack.enter_context(image_encoder(space, False, show_progress)) for space in spaces]
                result = create(
                    pictures,
                    encoders,
                    batch_size=batch_size,
                    raw=request.raw,
                    progress=show_progress,
                )
            embedding, _ = save_result(result, library, name, note, request.overwrite)
            skipped = [{"name": name, "reason": printable(reason)} for name, reason in result.skipped]
            return {**_described(embedding), "used": result.used, "skipped": skipped}

    @router.delete("/embeddings/{name:path}")
    def delete_embedding(name: str) -> dict[str, Any]:
        """Moves it to the trash folder."""
        with _answered():
            _existing(name).trash(name)
            return {"name": name, "trashed": True}

    _add_tastes(router)
    return router


def _add_tastes(router: APIRouter) -> None:
    """The routes for embeddings that grow by single pictures, and for those of a single one."""

    @router.get("/tastes")
    def list_tastes() -> list[dict[str, Any]]:
        with _answered():
            return [_taste(profile) for profile in profiles.profiles(options.embeddings())]

    @router.post("/tastes/{name:path}/like")
    def like(name: str, request: PictureRequest) -> dict[str, Any]:
        return _rated(name, request, Opinion.LIKED)

    @router.post("/tastes/{name:path}/dislike")
    def dislike(name: str, request: PictureRequest) -> dict[str, Any]:
        return _rated(name, request, Opinion.DISLIKED)

    @router.post("/tastes/{name:path}/undo")
    def undo(name: str) -> dict[str, Any]:
        """Takes the last change back, whatever it was."""
        with _answered():
            return _outcome(profiles.undo(_existing(name), name))

    @router.get("/tastes/{name:path}/pictures")
    def list_pictures(name: str, start: int = 0, count: int = 100) -> list[dict[str, Any]]:
        """The latest first."""
        with _answered():
            found = profiles.pictures(_existing(name), name)[max(start, 0) :][: max(min(count, MAX_SENT), 0)]
            return [
                {"picture": c.digest, "name": c.name, "opinion": c.after.value, "when": c.when}
                for c in found
                if c.after
            ]

    @router.get("/tastes/{name:path}/pictures/{picture}")
    def show_picture(name: str, picture: str) -> Response:
        """A small copy of one, as JPEG."""
        with _answered():
            return Response(profiles.thumbnail(_existing(name), name, picture), media_type="image/jpeg")

    @router.delete("/tastes/{name:path}/pictures/{picture}")
    def remove_picture(name: str, picture: str) -> dict[str, Any]:
        with _answered():
            return _outcome(profiles.remove(_existing(name), name, picture))

    @router.post("/pictures")
    def keep_picture(request: PictureRequest) -> dict[str, Any]:
        """Makes a picture an embedding until the WebUI ends; its name goes where embeddings are named."""
        with _answered():
            return {"name": looking.keep(looking.look(_picture(request)))}


def _rated(name: str, request: PictureRequest, opinion: Opinion) -> dict[str, Any]:
    with _answered():
        library = options.embeddings()
        # Before anything long.
        name = profiles.refuse_other(library, checked_text("Name", LONGEST_NOTE)(name))
        return _outcome(profiles.rate(library, name, looking.look(_picture(request)), opinion))


def _picture(request: PictureRequest) -> Source:
    ((_, content),) = _pictures([request.image])
    return checked_text("Name", 200)(request.name) or "sent", content


def _taste(profile: profiles.Profile) -> dict[str, Any]:
    return {"name": profile.name, "liked": profile.counts.liked, "disliked": profile.counts.disliked}


def _outcome(outcome: profiles.Outcome) -> dict[str, Any]:
    before, after = (opinion.value if opinion else None for opinion in (outcome.before, outcome.after))
    return {**_taste(outcome.profile), "picture": outcome.picture, "before": before, "after": after}


def _accounts() -> dict[str, str]:
    """Passwords by name: those of ``--api-auth``, which covers the WebUI's own routes only."""
    pairs = [pair.partition(":") for pair in (shared.cmd_opts.api_auth or "").split(",") if pair]
    return {user: password for user, _, password in pairs}


def _check(given: HTTPBasicCredentials = Depends(HTTPBasic())) -> None:  # noqa: B008 - FastAPI's way
    expected = _accounts().get(given.username)
    if expected is None or not secrets.compare_digest(given.password.encode(), expected.encode()):
        raise HTTPException(401, "Incorrect username or password", {"WWW-Authenticate": "Basic"})


@contextlib.contextmanager
def _answered() -> Iterator[None]:
    try:
        yield
    except AestheticError as error:
        raise HTTPException(422, printable(_told(error))) from error
    except Interrupted:
        raise HTTPException(409, "Interrupted: nothing was saved.") from None


def _existing(name: str) -> Library:
    """The library, if it has this embedding; a path is never one of its names."""
    library = options.embeddings()
    try:
        library.find(name)
    except AestheticError as error:
        raise HTTPException(404, printable(_told(error))) from error
    return library


def _spaces(texts: list[str]) -> list[Space]:
    found = {text: space_named(text) for text in texts}
    if unknown := [text for text, space in found.items() if space is None]:
        raise AestheticError(
            f"There is no CLIP space {unknown[0][:100]!r}.",
            f"There are: {', '.join(space.name for space in PUBLISHED)}.",
            "Choose among them, or leave them out for those of the loaded checkpoint.",
        )
    return [space for space in found.values() if space]


def _pictures(images: list[str]) -> list[tuple[str, bytes]]:
    check_count(len(images), MAX_SENT)
    if not images:
        raise AestheticError("There are no images.", "The list is empty.", "Send picture files as base64.")
    # Four characters of base64 are three bytes.
    if sum(map(len, images)) * 3 // 4 > MAX_BYTES:
        raise AestheticError(
            "The images are too large.",
            f"One request takes {MAX_BYTES >> 20} MB.",
            "Send them smaller: CLIP looks at 224 x 224 pixels.",
        )
    pictures = []
    for number, text in enumerate(images, 1):
        try:
            data = "".join(text.rpartition(",")[2].split())
            pictures.append((f"image {number}", base64.b64decode(data, validate=True)))
        except ValueError as error:  # letters beyond ASCII raise another one than wrong ones within
            raise AestheticError(
                f"Image {number} is not base64.", f"{error}.", "Send picture files as base64."
            ) from error
    return pictures


def _described(embedding: Embedding) -> dict[str, Any]:
    return {
        "name": embedding.name,
        "spaces": [space.name for space in embedding.vectors],
        "digest": embedding.digest,
        "metadata": {printable(key): printable(value) for key, value in embedding.metadata.items()},
    }


def _told(error: AestheticError) -> str:
    return error.told(_REMEDIES)


def _sentence(error: RequestValidationError) -> str:
    """What is wrong with a request, in one line."""
    faults = [
        f"{'.'.join(map(str, fault.get('loc', ())[1:])) or 'The body'}: {fault.get('msg', 'not valid')}"
        for fault in error.errors()[:5]
    ]
    return printable(f"The request is not as it has to be. {'; '.join(faults)}. /docs shows what it takes.")
