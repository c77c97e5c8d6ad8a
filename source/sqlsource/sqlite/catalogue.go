package sqlite

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
	"github.com/artifactofdevotion/devotion/source/sqlsource/dialect"
)

// Relations implements [dialect.Catalogue]. It lists the tables of the main database. SQLite has no
// sizes in its catalogue, so a table has as many rows as its greatest rowid says, or fewer.
func (d Dialect) Relations(ctx context.Context, db ceiling.Queryer) (list []dialect.Relation, err error) {
	var rowids []bool
	err = ceiling.Each(ctx, db, func(rows *sql.Rows) error {
		r := dialect.Relation{Rows: -1, Bytes: -1, Grants: dialect.Grants{Read: true, Trigger: true}}
		var rowid bool
		err := rows.Scan(&r.Name, &r.Kind, &rowid)
		r.Grants.Trigger = r.Kind == "table"
		if r.Kind == "virtual" {
			r.Kind = "virtual table"
		}
		list, rowids = append(list, r), append(rowids, rowid)
		return err
	}, `SELECT name, type, type = 'table' AND NOT wr FROM pragma_table_list
		WHERE schema = 'main' AND type IN ('table', 'view', 'virtual') AND name NOT LIKE 'sqlite\_%' ESCAPE '\' ORDER BY 1`)
	for i := range list {
		if err == nil {
			list[i].Key, err = ceiling.Texts(ctx, db, keyOf, list[i].Name)
		}
		if err == nil && rowids[i] {
			err = db.QueryRowContext(ctx, "SELECT coalesce(max(_rowid_), 0) FROM main."+d.Quote(list[i].Name)).Scan(&list[i].Rows)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("listing the tables: %w", err)
	}
	return list, nil
}

// keyOf lists the columns of the primary key, or else of the shortest unique index without NULL.
const keyOf = `WITH k AS (
		SELECT c.name, c.pk AS n, 0 AS i FROM pragma_table_info(?1) AS c WHERE c.pk > 0
		UNION ALL SELECT x.name, x.seqno, 1 + l.seq FROM pragma_index_list(?1) AS l, pragma_index_info(l.name) AS x
		WHERE l."unique" AND NOT l.partial AND NOT EXISTS (
			SELECT 1 FROM pragma_index_info(l.name) AS y LEFT JOIN pragma_table_info(?1) AS c ON c.name = y.name WHERE c.name IS NULL OR NOT c."notnull")
	)
	SELECT name FROM k WHERE i = (SELECT i FROM k GROUP BY i ORDER BY i > 0, count(*), i LIMIT 1) ORDER BY n`
