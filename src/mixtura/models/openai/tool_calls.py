"""The tool calls of one reply, whole or put together from the pieces of a stream."""

from collections.abc import Collection, Sequence

import msgspec

from mixtura.chat import ChatRequest, JsonObject, tool_name
from mixtura.models.openai.bounds import bounds_of
from mixtura.models.openai.call_pieces import CallPiece, GatheredCall, calls_in, legacy_in, piece_of
from mixtura.models.openai.kept import given
from mixtura.models.openai.reply import WireError, WireMessage

# About what a gathered tool call takes, and a bracket or separator of what else it holds.
_CALL_BYTES = 640
_VALUE_BYTES = 192
# The index of a `function_call`, which came before tool calls did.
_LEGACY = -1
_OWN_ID = 9


class ToolCalls:
    """The tool calls of one reply.

    Each gets an id that is unlike the others: the server's, or one of our own where it gave none or the same twice.
    """

    def __init__(self, request: ChatRequest) -> None:
        self._request = request
        self._bounds = bounds_of(request)
        self._calls: list[GatheredCall] = []
        self._by_index: dict[int, int] = {}
        self._by_id: dict[str, int] = {}
        self._room = self._bounds.objects
        self._over = 0  # calls of which all was shown
        self._offered = frozenset(filter(None, map(tool_name, request.options.tools or ())))

    def __bool__(self) -> bool:
        return bool(self._calls)

    def add_pieces(self, pieces: Sequence[JsonObject], reply: str) -> list[JsonObject]:
        """Take the pieces in one chunk of the reply with the id `reply`; return what they add, as `Delta` has it.

        Raises:
            WireError: there are more calls than can be, or they hold too much.
        """
        added: list[JsonObject] = []
        named: set[int] = set()
        for piece in map(piece_of, pieces):
            place = self._place_of(piece, named)
            if place is None:
                if not piece.name and self._calls and self._calls[-1].renamed:
                    piece = piece._replace(name=self._calls[-1].name)
                place = self._begin(piece, reply)
            else:
                self._note(piece, place)
            if piece.name:
                named.add(place)
            if piece.more or piece.inner:
                self._weigh(piece)
            added.append({"index": place, **self._calls[place].add(piece)})
        return added

    def add_legacy(self, function: msgspec.Raw, reply: str) -> list[JsonObject]:
        """Take a `function_call`; one that only repeats a tool call is left out."""
        if self._calls and _LEGACY not in self._by_index:
            return []
        piece = legacy_in(function, self._bounds)
        return [] if piece is None else self.add_pieces([{**piece, "index": _LEGACY}], reply)

    def add_whole(self, calls: Sequence[JsonObject], reply: str) -> None:
        """Take calls each of which is whole."""
        for piece in map(piece_of, calls):
            self._calls[self._begin(piece, reply)].add(piece)

    def held(self, *, cut: bool) -> list[JsonObject]:
        """Return what was not shown yet, once the reply is over; `cut` says that it is not whole."""
        new, self._over = range(self._over, len(self._calls)), len(self._calls)
        pieces = ({"index": place, **self._calls[place].held(cut=cut)} for place in new)
        return [piece for piece in pieces if len(piece) > 1]

    def calls(self, *, cut: bool) -> list[JsonObject] | None:
        """Return all calls, None for none; `cut` says that the reply was cut off."""
        return [call.call(cut=cut) for call in self._calls] or None

    def _begin(self, piece: CallPiece, reply: str) -> int:
        place = len(self._calls)
        if place * _CALL_BYTES > self._bounds.objects:
            raise WireError(f"a reply with more than {place:,} tool calls")
        taken = piece.id in self._by_id
        own = self._own_id(reply, place) if taken or not piece.id else ""
        self._calls.append(GatheredCall(own or piece.id, piece, self._offered, known=not own or taken))
        for one in filter(None, (own, piece.id)):
            self._by_id.setdefault(one, place)
        if piece.place is not None:
            self._by_index[piece.place] = place
        return place

    def _note(self, piece: CallPiece, place: int) -> None:
        """Note by what else a call is known."""
        call = self._calls[place]
        if piece.place is not None and not call.has_index:
            self._by_index.setdefault(piece.place, place)
            call.has_index = True
        if piece.id and not call.has_id:
            self._by_id.setdefault(piece.id, place)
            call.has_id = True

    def _own_id(self, reply: str, place: int) -> str:
        """Return an id as the strictest server wants it (Mistral: nine letters and digits).

        The turns before it keep it apart from those of earlier replies to the same conversation.
        """
        from hashlib import blake2b

        turns = len(self._request.messages)
        for salt in range(len(self._by_id) + 1):
            seed = f"{reply}/{turns}/{place}/{salt}".encode("utf-8", "replace")
            if (found := blake2b(seed, digest_size=8).hexdigest()[:_OWN_ID]) not in self._by_id:
                return found
        raise AssertionError("more ids than calls")

    def _weigh(self, piece: CallPiece) -> None:
        data = msgspec.json.encode([piece.more, piece.inner])
        self._room -= len(data) + _VALUE_BYTES * sum(map(data.count, (b"{", b"[", b",", b":")))
        if self._room < 0:
            raise WireError("a reply whose tool calls hold too much beside their arguments")

    def _place_of(self, piece: CallPiece, named: Collection[int]) -> int | None:
        """Return which call a piece belongs to, None for a new one; `named` are those named in the same chunk."""
        calls = self._calls
        if not calls:
            return None
        same = None if piece.place is None else self._by_index.get(piece.place)
        last = len(calls) - 1
        if piece.id and (known := self._by_id.get(piece.id)) is not None:
            # The same id twice in a chunk, or with another index, is a server that gives all calls one id.
            apart = known in named if piece.place is None else same != known
            return None if piece.name and apart and calls[known].may_be_over else known
        at = same if piece.place is not None else last
        if piece.id:
            # Of a call that began without an id this may be the id. And some give every piece another one.
            if at is None or (calls[at].has_id and (piece.name or not piece.arguments or calls[at].is_whole)):
                return None
            return None if calls[at].is_followed_by(piece, apart=piece.place is None) else at
        if at is None:
            # Some leave the index out of the first piece, and some count pieces in place of calls.
            at = piece.place if piece.place is not None and 0 <= piece.place < last else last
            return None if piece.name or (piece.arguments and calls[at].is_whole) else at
        if piece.name and at in named:
            return None
        return None if calls[at].is_followed_by(piece, apart=piece.place is None) else at


def whole_calls(message: WireMessage, request: ChatRequest, reply: str, *, cut: bool) -> list[JsonObject] | None:
    """Return the tool calls of a whole message, None for none; `cut` says that it was cut off.

    Raises:
        WireError: they would take more memory than the request allows.
    """
    found = ToolCalls(request)
    bounds = bounds_of(request)
    if given(message.tool_calls):
        found.add_whole(calls_in(message.tool_calls, bounds), reply)
    if not found and given(message.function_call):
        found.add_whole(list(filter(None, [legacy_in(message.function_call, bounds)])), reply)
    return found.calls(cut=cut)
