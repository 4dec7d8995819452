"""The state file survives whatever happens to it, and what it held is never thrown away."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path

import msgspec
import pytest

from exporter.daemon import FORMATS
from exporter.router import store
from exporter.router.routing import Target
from exporter.state import APPLICATION_ID, FILE, Full, State, beside, file_system
from tests.delivery import snapshot

TABLE = "CREATE TABLE IF NOT EXISTS numbers (number INTEGER);"
ROOT = Path(__file__).parents[2]

WRITER = """
import asyncio, sys
from pathlib import Path
from exporter.state import State

async def main():
    state = State(Path(sys.argv[1]))
    assert await state.open([sys.argv[2]]) is None
    for number in range(10**9):
        await state.run(lambda connection: connection.execute("INSERT INTO numbers VALUES (?)", [number]))
        print(number, flush=True)

asyncio.run(main())
"""


@pytest.fixture
async def state(tmp_path: Path) -> AsyncIterator[State]:
    """A state that is not open yet."""
    state = State(tmp_path / "state")
    yield state
    await state.close()


async def numbers(state: State) -> list[int]:
    """What is in the table."""
    return await state.run(lambda connection: [row[0] for row in connection.execute("SELECT number FROM numbers")])


def aside(directory: Path) -> list[Path]:
    """The database files that were moved aside."""
    return [path for path in directory.glob(f"{FILE}.*") if not path.name.endswith(("-wal", "-shm"))]


async def test_a_new_one(state: State, tmp_path: Path) -> None:
    """The directory is the owner's alone; the file is Windsock's, durable, and keeps what a transaction wrote."""
    assert await state.open([TABLE]) is None
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700
    await state.run(lambda connection: connection.execute("INSERT INTO numbers VALUES (7)"))
    assert await numbers(state) == [7]
    pragmas = ["application_id", "journal_mode", "synchronous", "max_page_count"]
    found = await state.run(lambda c: [c.execute(f"PRAGMA {name}").fetchone()[0] for name in pragmas])
    assert found == [APPLICATION_ID, "wal", 2, (1 << 30) // 4096]


async def test_work_that_fails_leaves_nothing(state: State) -> None:
    """A transaction is all or nothing, and the next one goes on."""
    await state.open([TABLE])

    def work(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO numbers VALUES (1)")
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await state.run(work)
    await state.run(lambda connection: connection.execute("INSERT INTO numbers VALUES (2)"))
    assert await numbers(state) == [2]


async def test_work_that_loses_the_transaction(state: State) -> None:
    """Nobody waits for ever: who shared it is told, and the next one goes on."""
    await state.open([TABLE])

    def work(connection: sqlite3.Connection) -> None:
        connection.execute("ROLLBACK")
        raise ValueError("no")

    async with asyncio.timeout(10):
        outcomes = await asyncio.gather(state.run(work), state.run(lambda connection: None), return_exceptions=True)
        assert [str(outcome) for outcome in outcomes] == ["no", "no"]
        await state.run(lambda connection: connection.execute("INSERT INTO numbers VALUES (2)"))
    assert await numbers(state) == [2]


async def test_work_needs_no_other_directory(state: State) -> None:
    """What could undo a large piece of work is in no temporary file: a container has no place for one."""
    await state.open([TABLE])
    many = [(number,) for number in range(50_000)]
    await state.run(lambda connection: connection.executemany("INSERT INTO numbers VALUES (?)", many))

    def rewrite(connection: sqlite3.Connection) -> set[str]:
        connection.execute("UPDATE numbers SET number = -number")
        return {os.path.realpath(link) for link in Path("/proc/self/fd").iterdir()}

    assert not [path for path in await state.run(rewrite) if "etilqs" in path]


async def test_concurrent_work_shares_a_transaction(state: State) -> None:
    """What comes while the disk is busy is written together, in order; each is done or undone by itself."""
    await state.open([TABLE])
    begun: list[str] = []
    await state.run(lambda connection: connection.set_trace_callback(begun.append))

    def work(connection: sqlite3.Connection, number: int) -> int:
        connection.execute("INSERT INTO numbers VALUES (?)", [number])
        if number % 3 == 2:
            raise ValueError(str(number))
        return number

    done = await asyncio.gather(
        *(state.run(partial(work, number=number)) for number in range(300)), return_exceptions=True
    )
    assert [str(outcome) for outcome in done] == [str(number) for number in range(300)]
    assert [type(outcome) for outcome in done[:3]] == [int, int, ValueError]
    assert await numbers(state) == [number for number in range(300) if number % 3 != 2]
    assert begun.count("BEGIN IMMEDIATE") == 2  # the last one reads


async def test_a_caller_that_is_gone(state: State) -> None:
    """It stops nobody else, and what it asked for is done."""
    await state.open([TABLE])
    insert = "INSERT INTO numbers VALUES (1)"
    tasks = [asyncio.create_task(state.run(lambda connection: connection.execute(insert).rowcount)) for _ in range(3)]
    await asyncio.sleep(0)
    tasks[1].cancel()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [int, asyncio.CancelledError, int]
    assert await state.run(numbers_in) == 3


async def test_a_long_line(state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond so many callers one is turned away at once, unless it is patient."""
    monkeypatch.setattr("exporter.state.LINE", 10)
    with pytest.raises(Full, match="not open"):
        await state.run(lambda connection: None)
    await state.open([TABLE])
    insert = "INSERT INTO numbers VALUES (1)"
    many = [state.run(lambda connection: connection.execute(insert).rowcount) for _ in range(20)]
    outcomes = await asyncio.gather(*many, state.run(numbers_in, patient=True), return_exceptions=True)
    assert [str(outcome) for outcome in outcomes[:20]] == ["1"] * 10 + ["10 others wait to be stored"] * 10
    assert outcomes[20] == 10


async def test_no_space_left(tmp_path: Path) -> None:
    """Whoever writes too much is told that it is full, and leaves nothing behind; others go on."""
    state = State(tmp_path, max_size=1 << 16)
    await state.open([TABLE])

    def insert(connection: sqlite3.Connection, size: int) -> int:
        return connection.execute("INSERT INTO numbers VALUES (zeroblob(?))", [size]).rowcount

    works = [partial(insert, size=size) for size in (9, 1 << 17, 9)]
    outcomes = await asyncio.gather(*map(state.run, works), return_exceptions=True)
    assert isinstance(outcomes[1], Full)
    assert await state.run(numbers_in) == outcomes.count(1)
    assert await state.run(works[0]) == 1
    await state.close()


def numbers_in(connection: sqlite3.Connection) -> int:
    """How many there are."""
    (count,) = connection.execute("SELECT count(*) FROM numbers").fetchone()
    return int(count)


@pytest.mark.parametrize("running", [True, False])
async def test_a_command_beside_the_daemon(tmp_path: Path, running: bool) -> None:
    """It may read and write, whether the daemon runs or not, and the daemon sees what it did."""
    state = State(tmp_path)
    await state.open([TABLE])
    await state.run(lambda connection: connection.execute("INSERT INTO numbers VALUES (1)"))
    if not running:
        await state.close()
    with beside(tmp_path) as connection:
        assert numbers_in(connection) == 1
        connection.execute("INSERT INTO numbers VALUES (2)")
    with pytest.raises(ValueError, match="no"), beside(tmp_path) as connection:
        connection.execute("INSERT INTO numbers VALUES (3)")
        raise ValueError("no")
    if not running:
        state = State(tmp_path)
        await state.open([TABLE])
    assert await numbers(state) == [1, 2]
    await state.close()


def test_a_command_without_a_state(tmp_path: Path) -> None:
    """It is told what is missing, and nothing is made."""
    with pytest.raises(OSError, match=r"state\.dir: there is no .*/windsock\.db"), beside(tmp_path):
        pass
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize(
    "damage",
    ["foreign", "unknown", "newer", "text", "header", "middle"],
)
async def test_what_cannot_be_used(state: State, tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture) -> None:
    """It is moved aside, whole, with one warning that says why; a new one takes its place."""
    path = tmp_path / "state" / FILE
    path.parent.mkdir()
    with sqlite3.connect(path) as connection:
        if damage != "foreign":
            connection.executescript(f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = 1;")
        if damage in ("unknown", "newer"):
            connection.execute(f"PRAGMA user_version = {0 if damage == 'unknown' else 99}")
        connection.executescript(f"{TABLE} CREATE INDEX i ON numbers (number);")
        connection.executemany("INSERT INTO numbers VALUES (?)", [(number,) for number in range(5000)])
    connection.close()
    whole = path.read_bytes()
    if damage == "text":
        path.write_text("This is no database. " * 200)
    elif damage == "header":
        path.write_bytes(whole[:16] + os.urandom(84) + whole[100:])
    elif damage == "middle":
        path.write_bytes(whole[:8192] + os.urandom(4096) + whole[12288:])
    before = path.read_bytes()
    assert await state.open([TABLE]) is None
    assert await numbers(state) == []
    assert [len(each.read_bytes()) for each in aside(path.parent)] == [len(before)]
    assert len(caplog.records) == 1
    assert caplog.records[0].reason  # type: ignore[attr-defined]


async def made(directory: Path, *scripts: str, work: Callable[[sqlite3.Connection], object]) -> None:
    """A file of an older release, and what that has written."""
    state = State(directory)
    assert await state.open(scripts) is None
    await state.run(work)
    await state.close()


def three(connection: sqlite3.Connection) -> None:
    """Three numbers."""
    connection.execute("INSERT INTO numbers VALUES (1), (2), (3)")


async def test_an_older_format(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It is brought up to date by what it has not seen yet, each step once, and keeps what it held."""
    steps = (TABLE, "ALTER TABLE numbers ADD COLUMN square INTEGER;", "UPDATE numbers SET square = number * number;")
    await made(tmp_path, *steps[:1], work=three)
    for _ in range(2):
        state = State(tmp_path)
        assert await state.open(steps) is None
        found = await state.run(lambda connection: connection.execute("SELECT * FROM numbers").fetchall())
        assert found == [(1, 1), (2, 4), (3, 9)]
        assert await state.run(lambda connection: connection.execute("PRAGMA user_version").fetchone()) == (3,)
        await state.close()
    assert (caplog.records, aside(tmp_path)) == ([], [])


@pytest.mark.parametrize("alerts", [False, True], ids=["without alerts", "with alerts"])
async def test_the_first_format(state: State, tmp_path: Path, alerts: bool) -> None:
    """It had the accounting's tables, and later the router's, too: what was counted stays, and an alert still waits."""
    told = snapshot(now=9.0)

    def work(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO accounting VALUES ('memory', '7')")
        if alerts:
            group = (1, told.source, told.receiver, told.key, told.identity, 1, 1, 0, 9.0, 1, 9.0)
            row = (*group, msgspec.json.encode(told))
            connection.execute("INSERT INTO router_group VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
            connection.execute(
                "INSERT INTO router_message (group_id, destination, lane, mention, rank, since, wanted)"
                " VALUES (1, 'ops', 'ops', '', 1, 9.0, 1)"
            )

    await made(tmp_path / "state", "".join(FORMATS[: 1 + alerts]), work=work)
    assert await state.open(FORMATS) is None
    assert await state.run(lambda connection: connection.execute("SELECT value FROM accounting").fetchone()) == ("7",)
    accept = partial(store.accept, snapshot=told, targets=[Target("ops", "")], now=10.0)
    assert await state.run(accept) == ("duplicate" if alerts else "stored")
    claim = await state.run(partial(store.claim, lane="ops", now=11.0, may=store.May(edit=True)))
    assert claim
    assert claim.snapshot == told


async def test_a_step_that_does_not_fit(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The file is moved aside as it was, whatever the step had done by then, and a new one begins."""
    await made(tmp_path, TABLE, work=three)
    step = "DELETE FROM numbers; ALTER TABLE numbers DROP COLUMN IF EXISTS square;"
    state = State(tmp_path)
    with pytest.raises(OSError, match=r"state\.dir: cannot use .*: it is damaged: near"):
        await state.open([TABLE, step])
    await state.close()
    (old,) = aside(tmp_path)
    with sqlite3.connect(old) as connection:
        assert numbers_in(connection) == 3
    connection.close()
    assert len(caplog.records) == 1


async def test_killed_in_a_step(tmp_path: Path) -> None:
    """Nothing of it is there: the next start finds the file as it was, and does it all."""
    await made(tmp_path, TABLE, work=three)
    step = """DELETE FROM numbers;
    WITH RECURSIVE n(i) AS (SELECT 9 UNION ALL SELECT i + 1 FROM n) INSERT INTO numbers SELECT i FROM n;"""
    code = WRITER.replace("[sys.argv[2]]", "sys.argv[2:]")
    command = [sys.executable, "-c", code, str(tmp_path), TABLE, step]
    with subprocess.Popen(command, cwd=ROOT) as process:
        log = tmp_path / f"{FILE}-wal"
        while not (log.exists() and log.stat().st_size > 1 << 20):
            assert process.poll() is None
            await asyncio.sleep(0.01)
        process.kill()
    state = State(tmp_path)
    assert await state.open([TABLE, "INSERT INTO numbers SELECT 10 * number FROM numbers;"]) is None
    assert await numbers(state) == [1, 2, 3, 10, 20, 30]
    await state.close()
    assert aside(tmp_path) == []


@pytest.mark.parametrize("content", [None, b""], ids=["missing", "empty"])
async def test_nothing_is_a_cold_start(
    state: State, tmp_path: Path, content: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither a missing nor an empty file is worth a warning."""
    if content is not None:
        (tmp_path / "state").mkdir()
        (tmp_path / "state" / FILE).write_bytes(content)
    assert await state.open([TABLE]) is None
    assert await numbers(state) == []
    assert (caplog.records, aside(tmp_path / "state")) == ([], [])


async def test_a_second_process(state: State, tmp_path: Path) -> None:
    """It is told why it has to wait, and gets the file when the first one ends, also by SIGKILL."""
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path / "state"), TABLE], stdout=subprocess.PIPE, cwd=ROOT
    ) as first:
        assert first.stdout
        first.stdout.readline()
        for _ in range(2):
            assert await state.open([TABLE]) == f"another process uses {tmp_path / 'state'}"
        first.kill()
        first.wait()
        assert await state.open([TABLE]) is None


async def test_kill_9(tmp_path: Path) -> None:
    """Whatever was reported as done is there after SIGKILL, and nothing in between is missing."""
    done = -1
    for _ in range(3):
        command = [sys.executable, "-c", WRITER, str(tmp_path / "state"), TABLE]
        with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT, text=True) as process:
            assert process.stdout
            process.stdout.readline()
            time.sleep(0.05)
            process.kill()
            done = max([0, *map(int, process.stdout.read().split())])
        state = State(tmp_path / "state")
        assert await state.open([TABLE]) is None
        found = await numbers(state)
        await state.run(lambda connection: connection.execute("DELETE FROM numbers"))
        await state.close()
        assert found[: done + 1] == list(range(done + 1))
        assert len(found) <= done + 2
    assert aside(tmp_path / "state") == []


async def test_a_directory_that_cannot_be(tmp_path: Path) -> None:
    """The error names the setting, the path and the reason."""
    (tmp_path / "file").write_text("")
    state = State(tmp_path / "file" / "state")
    with pytest.raises(OSError, match=r"state\.dir: cannot write to .*/file/state: Not a directory"):
        await state.open([TABLE])
    await state.close()


async def test_a_network_file_system(monkeypatch: pytest.MonkeyPatch, state: State) -> None:
    """It is refused: SQLite's locks are none there."""
    monkeypatch.setattr("exporter.state.file_system", lambda path: "nfs4")
    with pytest.raises(OSError, match="network file system"):
        await state.open([TABLE])


def test_the_file_system_of_a_path(tmp_path: Path) -> None:
    """The mount that is nearest above it; of two at the same place, the later."""
    mounts = tmp_path / "mountinfo"
    mounts.write_text(
        "1 0 8:1 / / rw - ext4 /dev/sda1 rw\n"
        "2 1 0:40 / /srv rw shared:1 - nfs4 host:/srv rw\n"
        "3 1 0:41 / /srv/my\\040disk rw - xfs /dev/sdb rw\n"
        "4 1 0:42 / /srv/my\\040disk rw - cifs //host/share rw\n"
    )
    paths = ("/var/lib/windsock", "/srv", "/srv/a", "/srv/my disk/a", "/srvx")
    assert [file_system(Path(path), mounts) for path in paths] == ["ext4", "nfs4", "nfs4", "cifs", "ext4"]
    assert file_system(tmp_path, tmp_path / "none") == ""
