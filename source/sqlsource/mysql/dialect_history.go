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

// History implements [dialect.Reader]. It uses the AUTO_INCREMENT counter, which DELETE and a
// rebuild do not set back, but TRUNCATE, a recreated table and a restored backup do. A cursor keeps
// the greatest key there was, and not the counter: numbers that no row got are forgotten at a
// restart. MariaDB has nothing that identifies a server and stays the same when it moves: its
// server_uid is made of the network address.
func (d Dialect) History(ctx context.Context, db ceiling.Queryer, table []string) (h dialect.History, err error) {
	var next uint64
	var counted bool
	if table != nil {
		if next, counted, err = readCounter(ctx, db, table); err != nil {
			return h, err
		}
	}
	var drawn []string // the AUTO_INCREMENT column, if there is one
	if counted {
		drawn, err = ceiling.Texts(ctx, db, "SELECT COLUMN_NAME FROM information_schema.COLUMNS WHERE "+isTable(table)+" AND EXTRA LIKE '%auto_increment%'")
		if err != nil {
			return h, fmt.Errorf("reading the AUTO_INCREMENT column: %w", err)
		}
	}
	top := "0"
	if drawn != nil {
		top = "COALESCE((SELECT MAX(" + quote(drawn[0]) + ") FROM " + dialect.QuoteAll(d, table) + "), 0)"
	}
	var server, greatest string
	if err := db.QueryRowContext(ctx, "SELECT /*!80000 @@server_uuid */ /*M! '' */, "+top).Scan(&server, &greatest); err != nil {
		return h, err
	}
	h.Drawn, h.Flushed = math.MaxUint64, math.MaxUint64
	h.Parts = []dialect.HistoryPart{{Name: "server", Value: server, Changed: "the data source name leads to another server, or a replica took its place"}}
	if drawn != nil && greatest[0] != '-' {
		h.Drawn = next - 1
		h.Mark, err = strconv.ParseUint(greatest, 10, 64)
	}
	return h, err
}

// small is up to how many rows it means nothing that MySQL reads and sorts all of them: it does
// so, with an index too, where a batch is a good part of them.
const small = 100 * 1024

// Explain implements [dialect.Reader].
func (Dialect) Explain(ctx context.Context, db *sql.DB, statement string, args []any, _ bool) ([]string, ceiling.Finding, error) {
	lines, steps, err := dialect.ReadPlan(ctx, db, "EXPLAIN "+statement, args)
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
