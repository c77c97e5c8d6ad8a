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
		r := dialect.Relation{Database: "main", Rows: -1, Bytes: -1, Grants: dialect.Grants{Read: true, Trigger: true}}
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
		if err == nil && list[i].Kind == "table" { // asking for the columns of a broken view is an error
			err = ceiling.Each(ctx, db, func(rows *sql.Rows) error {
				var name string
				err := rows.Scan(&name, &list[i].Nulls)
				list[i].Key = append(list[i].Key, name)
				return err
			}, keyOf, list[i].Name)
		}
		if err == nil && rowids[i] {
			list[i].Place = "_rowid_"
			err = db.QueryRowContext(ctx, "SELECT coalesce(max(_rowid_), 0) FROM main."+d.Quote(list[i].Name)).Scan(&list[i].Rows)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("listing the tables: %w", err)
	}
	return list, nil
}

// keyOf lists the columns of the primary key, or else of the shortest unique index, one without NULL
// first. The primary key may hold NULL, unless it is the rowid or the table has none.
const keyOf = `WITH k AS (
		SELECT c.name, c.pk AS n, -1 AS i, NOT c."notnull" AND NOT (upper(c.type) = 'INTEGER' AND 1 = (SELECT count(*) FROM pragma_table_info(?1) WHERE pk > 0)) AND NOT l.wr AS nulls
		FROM pragma_table_info(?1) AS c, pragma_table_list(?1) AS l WHERE c.pk > 0 AND l.schema = 'main'
		UNION ALL SELECT x.name, x.seqno, l.seq, NOT coalesce(c."notnull", 0)
		FROM pragma_index_list(?1) AS l, pragma_index_info(l.name) AS x LEFT JOIN pragma_table_info(?1) AS c ON c.name = x.name
		WHERE l."unique" AND NOT l.partial AND NOT EXISTS (SELECT 1 FROM pragma_index_info(l.name) AS y WHERE y.name IS NULL)
	), best AS (SELECT i, max(nulls) AS nulls FROM k GROUP BY i ORDER BY i >= 0, max(nulls), count(*), i LIMIT 1)
	SELECT k.name, best.nulls FROM k JOIN best ON best.i = k.i ORDER BY k.n`
