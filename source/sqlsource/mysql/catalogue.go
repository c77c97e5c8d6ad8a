package mysql

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"

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
			err := rows.Scan(&r.Name, &kind, &r.Rows, &r.Bytes)
			if strings.Contains(kind, "VIEW") {
				r.Kind = "view"
			}
			list = append(list, r)
			return err
		}, `SELECT TABLE_NAME, TABLE_TYPE, COALESCE(TABLE_ROWS, -1), COALESCE(DATA_LENGTH, -1) FROM information_schema.TABLES
			WHERE TABLE_SCHEMA = DATABASE() AND TABLE_TYPE IN ('BASE TABLE', 'VIEW', 'SYSTEM VERSIONED') ORDER BY 1`)
	}
	if err == nil {
		err = readKeys(ctx, db, list)
	}
	if err != nil {
		return nil, fmt.Errorf("listing the tables: %w", err)
	}
	return list, nil
}

// readKeys adds the keys of tables: unique indexes over whole columns without NULL.
func readKeys(ctx context.Context, db ceiling.Queryer, list []dialect.Relation) error {
	type key struct {
		columns []string
		primary bool
	}
	keys := map[[2]string]*key{}
	err := ceiling.Each(ctx, db, func(rows *sql.Rows) error {
		var table, index, column string
		var usable bool
		if err := rows.Scan(&table, &index, &column, &usable); err != nil {
			return err
		}
		k := keys[[2]string{table, index}]
		if k == nil {
			k = &key{columns: []string{}, primary: index == "PRIMARY"}
			keys[[2]string{table, index}] = k
		}
		if !usable || k.columns == nil {
			k.columns = nil
			return nil
		}
		k.columns = append(k.columns, column)
		return nil
	}, `SELECT TABLE_NAME, INDEX_NAME, COALESCE(COLUMN_NAME, ''), COLUMN_NAME IS NOT NULL AND SUB_PART IS NULL AND NULLABLE = '' FROM information_schema.STATISTICS
		WHERE TABLE_SCHEMA = DATABASE() AND NON_UNIQUE = 0 ORDER BY TABLE_NAME, INDEX_NAME <> 'PRIMARY', INDEX_NAME, SEQ_IN_INDEX`)
	for i := range list {
		primary := false
		for name, k := range keys {
			if name[0] != list[i].Name || k.columns == nil || primary {
				continue
			}
			better := list[i].Key == nil || len(k.columns) < len(list[i].Key) ||
				len(k.columns) == len(list[i].Key) && slices.Compare(k.columns, list[i].Key) < 0
			if k.primary || better {
				list[i].Key, primary = k.columns, k.primary
			}
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
