package sqlite

import (
	"context"
	"fmt"
	"strings"

	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
	"github.com/artifactofdevotion/devotion/source/sqlsource/dialect"
)

// columnOf names the table whose b-tree, or an index of it, has a root page, and the column that has a
// place in it: that of the rowid, or one of the columns that are stored. A table WITHOUT ROWID
// stores them in another order, which is not followed.
const columnOf = `SELECT m.tbl_name, coalesce(CASE
		WHEN m.type = 'index' THEN (SELECT name FROM pragma_index_xinfo(m.name, ?1) WHERE seqno = ?3)
		WHEN ?3 < 0 THEN (SELECT name FROM pragma_table_info(m.name, ?1) WHERE pk = 1)
		WHEN NOT (SELECT wr FROM pragma_table_list(m.name) WHERE schema = ?1) THEN (SELECT name FROM
			(SELECT name, row_number() OVER (ORDER BY cid) - 1 AS n FROM pragma_table_xinfo(m.name, ?1) WHERE hidden <> 2) WHERE n = ?3)
	END, '') FROM %s.sqlite_master AS m WHERE m.rootpage = ?2`

// Origin implements [dialect.Reader]. It follows the first register of the result to the cursor that
// fills it, and that to the b-tree that it reads.
func (Dialect) Origin(ctx context.Context, db ceiling.Queryer, statement string, table []string, column string) (o dialect.Origin, err error) {
	steps, err := dialect.ReadPlan(ctx, db, "EXPLAIN "+statement, nil)
	if err != nil {
		return o, fmt.Errorf("asking which table has the key: %w", err)
	}
	register, cursor, place := "", "", "-1"
	opened := map[string]map[string]string{} // the step that opens a cursor
	for _, s := range steps {
		switch s["opcode"] {
		case "OpenRead":
			opened[s["p1"]] = s
		case "ResultRow":
			register = s["p1"]
		}
	}
	for _, s := range steps {
		switch {
		case s["opcode"] == "Rowid" && s["p2"] == register:
			cursor = s["p1"]
		case s["opcode"] == "Column" && s["p3"] == register:
			cursor, place = s["p1"], s["p2"]
		}
	}
	open := opened[cursor]
	if open == nil {
		return o, nil
	}
	var schema, name, has string
	err = db.QueryRowContext(ctx, `SELECT name FROM pragma_database_list WHERE seq = `+open["p3"]).Scan(&schema)
	if err == nil {
		err = db.QueryRowContext(ctx, strings.NewReplacer("%s", quote(schema), "?1", dialect.QuoteWith("'", schema), "?2", open["p2"], "?3", place).Replace(columnOf)).Scan(&name, &has)
	}
	if err != nil {
		return o, fmt.Errorf("asking which table has the key: %w", err)
	}
	o.Table, o.Column = []string{schema, name}, has
	o.Same = strings.EqualFold(name, table[len(table)-1]) && (len(table) == 1 || strings.EqualFold(schema, table[0])) && (has == "" || strings.EqualFold(has, column))
	return o, nil
}
