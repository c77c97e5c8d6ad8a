package mysql

import (
	"context"
	"database/sql"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
	"github.com/artifactofdevotion/devotion/source/sqlsource/dialect"
)

// History implements [dialect.Reader]. It uses the AUTO_INCREMENT counter, which
// DELETE and a rebuild do not set back, but TRUNCATE, a recreated table and a
// restored backup do. A cursor keeps the greatest key there was, and not the
// counter: numbers that no row got are forgotten at a restart. MariaDB has
// nothing that identifies a server and stays the same when it moves: its
// server_uid is made of the network address.
func (d Dialect) History(ctx context.Context, db ceiling.Queryer, table []string) (dialect.History, error) {
	next, top := uint64(0), "0"
	known := false
	if table != nil {
		var err error
		if next, known, err = readCounter(ctx, db, table); err != nil {
			return dialect.History{}, err
		}
	}
	if known {
		column, err := readDrawn(ctx, db, table)
		if err != nil {
			return dialect.History{}, err
		}
		if known = column != ""; known {
			top = "COALESCE((SELECT MAX(" + d.Quote(column) + ") FROM " + dialect.QuoteAll(d, table) + "), 0)"
		}
	}
	var server, greatest string
	err := db.QueryRowContext(ctx, "SELECT /*!80000 @@server_uuid */ /*M! '' */, "+top).Scan(&server, &greatest)
	if err != nil {
		return dialect.History{}, err
	}
	h := dialect.History{Drawn: math.MaxUint64, Flushed: math.MaxUint64, Parts: []dialect.HistoryPart{
		{Name: "server", Value: server, Changed: "the data source name leads to another server, or a replica took its place"},
	}}
	if known && greatest[0] != '-' {
		h.Drawn = next - 1
		h.Mark, err = strconv.ParseUint(greatest, 10, 64)
	}
	return h, err
}

// small is up to how many rows it means nothing that MySQL reads and sorts all of
// them: it does so, with an index too, where a batch is a good part of them.
const small = 100 * 1024

// Explain implements [dialect.Reader].
func (Dialect) Explain(ctx context.Context, db *sql.DB, statement string, args []any, _ bool) ([]string, ceiling.Finding, error) {
	rows, err := db.QueryContext(ctx, "EXPLAIN "+statement, args...)
	if err != nil {
		return nil, ceiling.Finding{}, err
	}
	lines, steps, err := dialect.ReadPlan(rows)
	var bad []string
	large := false
	for _, s := range steps {
		n, _ := strconv.ParseFloat(s["rows"], 64)
		if s["type"] == "ALL" || strings.Contains(s["Extra"], "Using filesort") || strings.Contains(s["Extra"], "Using temporary") {
			bad = append(bad, fmt.Sprintf("%s: type %s, %s", s["table"], s["type"], s["Extra"]))
			large = large || n > small
		}
	}
	switch {
	case err != nil || bad == nil:
		return lines, ceiling.Finding{}, err
	case !large:
		return lines, ceiling.Finding{Level: ceiling.Note, Text: fmt.Sprintf("the rows are so few that no index is used (%s); check again when there are more than %d", strings.Join(bad, "; "), small)}, nil
	}
	return lines, dialect.Slow("no index is used to read the rows in the order of the key (%s)", strings.Join(bad, "; ")), nil
}
