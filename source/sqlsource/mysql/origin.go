package mysql

import (
	"context"
	"database/sql"
	"fmt"
	"regexp"
	"strings"

	"github.com/artifactofdevotion/devotion/internal/dberr"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
	"github.com/artifactofdevotion/devotion/source/sqlsource/dialect"
)

// first is the first column of a statement as EXPLAIN rewrites it: `schema`.`alias`.`column`.
var first = regexp.MustCompile("^(?:/\\* select#1 \\*/ )?select (?:/\\*\\+.*?\\*/ )?`((?:[^`]|``)*)`\\.`((?:[^`]|``)*)`\\.`((?:[^`]|``)*)` AS ")

// Origin implements [dialect.Reader]. EXPLAIN leaves the rewritten statement as a note.
func (Dialect) Origin(ctx context.Context, db ceiling.Queryer, statement string, table []string, column string) (o dialect.Origin, err error) {
	if err := ceiling.Exec(ctx, db, "EXPLAIN /*M! EXTENDED */ "+statement); dberr.MySQLNumber(err) == 1345 {
		return o, nil // the role may not see what is below a view
	} else if err != nil {
		return o, fmt.Errorf("asking which table has the key: %w", err)
	}
	var text, here string
	err = ceiling.Each(ctx, db, func(rows *sql.Rows) error {
		var level, message string
		var code int
		err := rows.Scan(&level, &code, &message)
		if code == 1003 {
			text = message
		}
		return err
	}, "SHOW WARNINGS")
	m := first.FindStringSubmatch(text)
	if err != nil || m == nil {
		return o, err
	}
	if len(table) > 1 {
		here = table[0]
	} else if err := db.QueryRowContext(ctx, "SELECT COALESCE(DATABASE(), '')").Scan(&here); err != nil {
		return o, err
	}
	// A table without an alias stands there without one. Two derived tables can use the same alias.
	names := map[[2]string]bool{}
	for _, t := range regexp.MustCompile("`("+regexp.QuoteMeta(m[1])+")`\\.`((?:[^`]|``)*)` `"+regexp.QuoteMeta(m[2])+"`").FindAllStringSubmatch(text, -1) {
		names[[2]string{t[1], t[2]}] = true
	}
	if regexp.MustCompile("`" + regexp.QuoteMeta(m[1]) + "`\\.`" + regexp.QuoteMeta(m[2]) + "`(?:[^.` ]| [^`]|$)").MatchString(text) {
		names[[2]string{m[1], m[2]}] = true
	}
	if len(names) != 1 {
		return o, nil
	}
	plain := func(quoted string) string { return strings.ReplaceAll(quoted, "``", "`") }
	for name := range names {
		o.Table, o.Column = []string{plain(name[0]), plain(name[1])}, plain(m[3])
	}
	o.Same = strings.EqualFold(o.Table[0], here) && strings.EqualFold(o.Table[1], table[len(table)-1]) && strings.EqualFold(o.Column, column)
	return o, nil
}
