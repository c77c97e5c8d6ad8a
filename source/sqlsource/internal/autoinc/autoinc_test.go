package autoinc

import (
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestParse(t *testing.T) {
	for _, c := range []struct {
		name, statement string
		want            Counter
		ok              bool
	}{
		{"MariaDB", "CREATE TABLE `t` (\n  `id` bigint(20) NOT NULL AUTO_INCREMENT,\n  PRIMARY KEY (`id`)\n) ENGINE=InnoDB AUTO_INCREMENT=12 DEFAULT CHARSET=utf8mb4", Counter{"`id`", 12}, true},
		{"MySQL", "CREATE TABLE `t` (\n  `a` int,\n  `i``d` bigint unsigned NOT NULL AUTO_INCREMENT COMMENT 'it''s',\n  PRIMARY KEY (`i``d`)\n) /*!50100 TABLESPACE `x` */ ENGINE=InnoDB AUTO_INCREMENT=18446744073709551615 DEFAULT CHARSET=utf8mb4", Counter{"`i``d`", 1<<64 - 1}, true},
		{"never drawn", "CREATE TABLE `t` (\n  `id` int NOT NULL AUTO_INCREMENT,\n  PRIMARY KEY (`id`)\n) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4", Counter{"`id`", 1}, true},
		{"partitions", "CREATE TABLE `t` (\n  `id` int NOT NULL AUTO_INCREMENT,\n  PRIMARY KEY (`id`)\n) ENGINE=InnoDB AUTO_INCREMENT=5 DEFAULT CHARSET=utf8mb4\n PARTITION BY HASH (`id`)\nPARTITIONS 2", Counter{"`id`", 5}, true},
		{"ANSI_QUOTES", "CREATE TABLE \"t\" (\n  \"id\" int NOT NULL AUTO_INCREMENT,\n  PRIMARY KEY (\"id\")\n) ENGINE=InnoDB AUTO_INCREMENT=5", Counter{"\"id\"", 5}, true},
		{"only a comment and a default", "CREATE TABLE `t` (\n  `a` varchar(40) DEFAULT 'AUTO_INCREMENT',\n  `id` int NOT NULL COMMENT ' AUTO_INCREMENT'\n) ENGINE=InnoDB COMMENT='\\n) ENGINE=x AUTO_INCREMENT=7'", Counter{}, false},
		{"no options", "CREATE TABLE `t` (\n  `id` int NOT NULL AUTO_INCREMENT,\n  PRIMARY KEY (`id`)\n)", Counter{}, false},
	} {
		got, ok, err := parse(c.statement)
		require.NoError(t, err, c.name)
		require.Equal(t, c.ok, ok, c.name)
		if ok {
			require.Equal(t, c.want, got, c.name)
		}
	}
	_, _, err := parse("(\n  `id` int AUTO_INCREMENT\n) ENGINE=InnoDB AUTO_INCREMENT=99999999999999999999")
	require.Error(t, err)
}

type MySQLError struct{ Number uint16 }

func (e *MySQLError) Error() string { return "refused" }

func TestNumber(t *testing.T) {
	require.EqualValues(t, 1205, Number(fmt.Errorf("reading: %w", &MySQLError{1205})))
	require.EqualValues(t, 1205, Number(fmt.Errorf("reading: %w", errors.Join(nil, errors.New("other"), &MySQLError{1205}))))
	require.Zero(t, Number(errors.New("other")))
	require.Zero(t, Number(nil))
}
