package mariadb

import (
	"net/url"
	"strings"
	"testing"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
)

// The probe works in every SQL mode, which changes what quotes, operators and spaces mean, and with
// every other setting that changes results.
func TestSessionSettings(t *testing.T) {
	t.Parallel()
	d := dbtest.MariaDB(t).NewDatabase(t)
	admin := d.Open(t, dbtest.MySQL)
	for _, set := range []string{
		"sql_mode='ANSI'", "sql_mode='ORACLE'", "sql_mode='MSSQL'", "sql_mode='DB2'", "sql_mode='POSTGRESQL'", "sql_mode='MAXDB'", "sql_mode='TRADITIONAL'", "sql_mode=''",
		"sql_mode='NO_BACKSLASH_ESCAPES,HIGH_NOT_PRECEDENCE,NO_UNSIGNED_SUBTRACTION,ONLY_FULL_GROUP_BY'", "sql_mode='EMPTY_STRING_IS_NULL,PAD_CHAR_TO_FULL_LENGTH,IGNORE_SPACE'",
		"sql_safe_updates=1", "sql_select_limit=18446744073709551615", "sql_auto_is_null=1", "lc_time_names='de_DE'", "div_precision_increment=0", "group_concat_max_len=4",
		"time_zone='+09:00'", "old_mode='UTF8_IS_UTF8MB3'", "collation_connection=utf8mb4_bin", "query_cache_type=0", "completion_type=1", "tx_read_only=1", "max_statement_time=30",
	} {
		t.Run(set, func(t *testing.T) {
			admin.MustExec("drop table if exists t")
			admin.MustExec("create table t (id bigint auto_increment primary key, c char(5), at timestamp(6) default '2026-01-31 12:00:00')")
			admin.MustExec("insert into t (c) values ('a'), ('b'), ('c'), ('d')")
			admin.MustExec("delete from t where id = 2")
			name, value, _ := strings.Cut(set, "=")
			db, err := sqlx.Open("mysql", d.DSN(dbtest.MySQLText)+"?"+name+"="+url.QueryEscape(value))
			require.NoError(t, err)
			defer db.Close()
			table := lab.Silent(db, "t", "id")
			got, at := lab.ReadAll(t, table, "", 2, lab.RowJSON)
			require.Equal(t, []string{`{"id":1,"c":"a","at":"2026-01-31T12:00:00"}`, `{"id":3,"c":"c","at":"2026-01-31T12:00:00"}`, `{"id":4,"c":"d","at":"2026-01-31T12:00:00"}`}, got)
			tx := lab.Begin(t, admin, "insert into t (c) values ('e')")
			admin.MustExec("insert into t (c) values ('f')")
			b, err := table.Fetch(t.Context(), at, 10)
			require.NoError(t, err)
			require.Empty(t, b.Records)
			require.NotNil(t, b.Held)
			require.NoError(t, tx.Commit())
			got, at = lab.ReadAll(t, table, at, 10, lab.RowJSON)
			require.Len(t, got, 2)
			c, err := table.Check(t.Context(), at)
			require.NoError(t, err)
			require.True(t, c.Safe(), c.String())
		})
	}
}
