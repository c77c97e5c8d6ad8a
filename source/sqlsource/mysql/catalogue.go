package mysql

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"

	"github.com/artifactofdevotion/devotion/internal/dberr"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
	"github.com/artifactofdevotion/devotion/source/sqlsource/dialect"
)

// Relations implements [dialect.Catalogue]. It lists the tables of the session's database.
func (Dialect) Relations(ctx context.Context, db ceiling.Queryer) (list []dialect.Relation, err error) {
	trigger, err := mayCreateTriggers(ctx, db)
	if err == nil {
		err = ceiling.Each(ctx, db, func(rows *sql.Rows) error {
			r := dialect.Relation{Kind: "table", Grants: dialect.Grants{Read: true, Trigger: trigger}}
			var kind string
			err := rows.Scan(&r.Database, &r.Name, &kind, &r.Rows, &r.Bytes)
			if strings.Contains(kind, "VIEW") {
				r.Kind = "view"
			}
			list = append(list, r)
			return err
		}, `SELECT TABLE_SCHEMA, TABLE_NAME, TABLE_TYPE, COALESCE(TABLE_ROWS, -1), COALESCE(DATA_LENGTH, -1) FROM information_schema.TABLES
			WHERE TABLE_SCHEMA = DATABASE() AND TABLE_TYPE IN ('BASE TABLE', 'VIEW', 'SYSTEM VERSIONED') ORDER BY 2`)
	}
	if err == nil {
		err = readKeys(ctx, db, list)
	}
	for i := 0; err == nil && i < len(list); i++ {
		list[i].Grants.Read, err = mayRead(ctx, db, list[i])
	}
	if err != nil {
		return nil, fmt.Errorf("listing the tables: %w", err)
	}
	return list, nil
}

// mayRead reports whether the role may read all columns of a table. It asks the server by a statement that
// reads no row, because information_schema does not show the privileges of an enabled role.
func mayRead(ctx context.Context, db ceiling.Queryer, r dialect.Relation) (bool, error) {
	err := ceiling.Each(ctx, db, func(*sql.Rows) error { return nil }, "SELECT * FROM "+dialect.QuoteAll(Dialect{}, []string{r.Database, r.Name})+" LIMIT 0")
	switch number := dberr.MySQLNumber(err); {
	case number == 1142 || number == 1143: // the privilege is missing for the table or for a column
		return false, nil
	case number != 0: // it says nothing about the privilege, as of a view whose table is gone
		return true, nil
	}
	return err == nil, err
}

// uniqueKey is a unique index.
type uniqueKey struct {
	columns                 []string
	primary, nulls, partial bool // partial: of parts of columns, or of expressions
}

// before reports whether a key is preferred to another one.
func (k *uniqueKey) before(other *uniqueKey) bool {
	switch {
	case k.partial || other == nil || other.partial:
		return !k.partial
	case k.primary != other.primary:
		return k.primary
	case k.nulls != other.nulls:
		return other.nulls
	}
	return len(k.columns) < len(other.columns)
}

// readKeys adds the keys of tables.
func readKeys(ctx context.Context, db ceiling.Queryer, list []dialect.Relation) error {
	keys := map[string][]*uniqueKey{} // by table, the columns of an index in a row
	last := ""
	err := ceiling.Each(ctx, db, func(rows *sql.Rows) error {
		var table, index, column string
		var part, nulls bool
		if err := rows.Scan(&table, &index, &column, &part, &nulls); err != nil {
			return err
		}
		if name := table + "\x00" + index; name != last {
			keys[table], last = append(keys[table], &uniqueKey{primary: index == "PRIMARY"}), name
		}
		k := keys[table][len(keys[table])-1]
		k.columns, k.partial, k.nulls = append(k.columns, column), k.partial || part, k.nulls || nulls
		return nil
	}, `SELECT TABLE_NAME, INDEX_NAME, COALESCE(COLUMN_NAME, ''), COLUMN_NAME IS NULL OR SUB_PART IS NOT NULL, NULLABLE <> '' FROM information_schema.STATISTICS
		WHERE TABLE_SCHEMA = DATABASE() AND NON_UNIQUE = 0 ORDER BY TABLE_NAME, INDEX_NAME, SEQ_IN_INDEX`)
	for i, r := range list {
		var best *uniqueKey
		for _, k := range keys[r.Name] {
			if k.before(best) {
				best = k
			}
		}
		if best != nil && !best.partial {
			list[i].Key, list[i].Nulls = best.columns, best.nulls
		}
	}
	return err
}

// mayCreateTriggers reports whether the role has the privileges TRIGGER and CREATE on the database.
func mayCreateTriggers(ctx context.Context, db ceiling.Queryer) (bool, error) {
	grants, err := ceiling.Texts(ctx, db, `SELECT PRIVILEGE_TYPE FROM information_schema.SCHEMA_PRIVILEGES WHERE TABLE_SCHEMA = DATABASE()
		UNION ALL SELECT PRIVILEGE_TYPE FROM information_schema.USER_PRIVILEGES`)
	return slices.Contains(grants, "TRIGGER") && slices.Contains(grants, "CREATE"), err
}
