"""Ranking quality beside the field's recipes at equal time: same splits, same candidates, same judge."""
