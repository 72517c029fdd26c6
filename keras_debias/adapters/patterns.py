"""Regular expressions from untrusted files, matched in bounded time.

Python's own matcher tries every way to split a text among `*` and `+`, and a
pattern of twenty characters can keep it busy for years. Here all ways are
followed at once: the time is the length of the pattern times that of the
text.
"""

import string

_LONGEST = 2000
_CLASSES = {
    "d": set(string.digits),
    "w": set(string.ascii_letters + string.digits + "_"),
}
_SPECIAL = set("*+?{}()[]|^$\\")


class BoundedPattern:
    r"""A regular expression without lookaround, counts and backreferences.

    Literals, `.`, `\d`, `\w`, `[...]`, `|`, groups, and `*`, `+`, `?`.

    Args:
        pattern: string.

    Raises:
        ValueError: If the pattern is longer than 2,000 characters, or has
            anything else in it.
    """

    def __init__(self, pattern: str):
        if not isinstance(pattern, str) or len(pattern) > _LONGEST:
            raise ValueError(f"no pattern of up to {_LONGEST} characters")
        self.pattern = pattern
        self.is_anchored = pattern.startswith("^")
        text = pattern[1:] if self.is_anchored else pattern
        if text.endswith("$") and not text.endswith("\\$"):
            text = text[:-1]
        self._text, self._at, self._depth = text, 0, 0
        # `(test or None, next states)` of each state; the last one matches.
        self._states: list[tuple] = []
        start, ends = self._alternatives()
        if self._at != len(text):
            self._refuse()
        self._start = start
        self._end = self._state(None)
        self._join(ends, self._end)

    def _refuse(self):
        raise ValueError(
            f"{self.pattern[:80]!r} with something at {self._at} that is not "
            "read in bounded time: use names, `.*`, `[...]`, `|` and groups"
        )

    # From the text to states.

    def _state(self, test) -> int:
        self._states.append((test, []))
        return len(self._states) - 1

    def _join(self, ends, target):
        for end in ends:
            self._states[end][1].append(target)

    def _peek(self):
        return self._text[self._at : self._at + 1]

    def _alternatives(self):
        start = self._state(None)
        ends = []
        while True:
            first, last = self._sequence()
            self._join([start], first)
            ends += last
            if self._peek() != "|":
                return start, ends
            if self.is_anchored and not self._depth:
                # The anchor would hold for the first of them alone.
                self._refuse()
            self._at += 1

    def _sequence(self):
        start = self._state(None)
        ends = [start]
        while self._peek() not in ("", "|", ")"):
            first, last = self._repeated()
            self._join(ends, first)
            ends = last
        return start, ends

    def _repeated(self):
        first, last = self._atom()
        sign = self._peek()
        if not sign or sign not in "*+?":
            return first, last
        self._at += 1
        if self._peek() and self._peek() in "*+?":
            self._refuse()
        start, end = self._state(None), self._state(None)
        self._join([start], first)
        self._join(last, end)
        if sign in "*?":
            self._join([start], end)
        if sign in "*+":
            self._join([end], start)
        return start, [end]

    def _atom(self):
        character = self._peek()
        self._at += 1
        if character == "(":
            self._depth += 1
            if self._depth > 50:
                self._refuse()
            if self._text.startswith("?:", self._at):
                self._at += 2
            start, ends = self._alternatives()
            if self._peek() != ")":
                self._refuse()
            self._at += 1
            self._depth -= 1
            return start, ends
        if character == ".":
            test = _Any()
        elif character == "[":
            test = self._set()
        elif character == "\\":
            test = self._escaped()
        elif character in _SPECIAL:
            self._at -= 1
            self._refuse()
        else:
            test = {character}
        state = self._state(test)
        return state, [state]

    def _escaped(self):
        character = self._peek()
        self._at += 1
        if character in _CLASSES:
            return _CLASSES[character]
        if not character or character.isalnum():
            self._refuse()
        return {character}

    def _set(self):
        end = self._text.find("]", self._at)
        inside = self._text[self._at : end]
        if end < 0 or not inside or set(inside) & set("^\\["):
            self._refuse()
        self._at = end + 1
        found, i = set(), 0
        while i < len(inside):
            if inside[i + 1 : i + 2] == "-" and i + 2 < len(inside):
                low, high = ord(inside[i]), ord(inside[i + 2])
                found |= {chr(c) for c in range(low, min(high, 0xFFFF) + 1)}
                i += 3
            else:
                found.add(inside[i])
                i += 1
        return found

    # From states to an answer.

    def fits(self, name: str) -> bool:
        """Whether the pattern matches the whole name, or all after a dot."""
        if self._is_whole(name):
            return True
        if self.is_anchored:
            return False
        places = [i + 1 for i, c in enumerate(name) if c == "."]
        return any(self._is_whole(name[place:]) for place in places)

    def _is_whole(self, text) -> bool:
        if len(text) > _LONGEST:
            return False
        present = self._reach([self._start])
        for character in text:
            after = [
                target
                for state in present
                if (test := self._states[state][0]) and character in test
                for target in self._states[state][1]
            ]
            present = self._reach(after)
            if not present:
                return False
        return self._end in present

    def _reach(self, states) -> set[int]:
        found, stack = set(), list(states)
        while stack:
            state = stack.pop()
            if state in found:
                continue
            found.add(state)
            if self._states[state][0] is None:
                stack += self._states[state][1]
        return found


class _Any:
    """All characters."""

    def __contains__(self, character):
        return True
