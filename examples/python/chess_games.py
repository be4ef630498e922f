"""How much material did the winner give up? Each game of a PGN file is played through by a worker.

pip install procpool chess
"""

import io
import sys
from collections.abc import Iterator
from pathlib import Path

import chess.pgn
from procpool import Pool

VALUES = {chess.PAWN: 1, chess.KNIGHT: 3, chess.BISHOP: 3, chess.ROOK: 5, chess.QUEEN: 9}


def read_games(file: Path) -> Iterator[str]:
    """Yields the text of each game; a file of millions is never in memory as a whole."""
    text = ""
    for line in file.open():
        if line.startswith("[Event ") and text:
            yield text
            text = ""
        text += line
    yield text


def analyze(text: str) -> str:
    """Plays a game through, and returns how far behind the winner was at most."""
    game = chess.pgn.read_game(io.StringIO(text))
    winner = chess.WHITE if game.headers["Result"] == "1-0" else chess.BLACK
    board, behind = game.board(), 0
    for move in game.mainline_moves():
        board.push(move)
        behind = max(behind, -balance(board, winner))
    players = f"{game.headers['White']} - {game.headers['Black']}"
    return f"{players}: {board.fullmove_number} moves, {behind} points behind, mate: {board.is_checkmate()}"


def balance(board: chess.Board, color: chess.Color) -> int:
    """Returns the material of one side less that of the other."""
    return sum(
        value * (len(board.pieces(piece, color)) - len(board.pieces(piece, not color))) for piece, value in VALUES.items()
    )


if __name__ == "__main__":
    file = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("games.pgn")
    with Pool(2) as pool:
        for line in pool.imap(analyze, read_games(file)):
            print(line)
