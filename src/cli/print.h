/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What people and programs get to read: documents and tables on stdout, notes and errors on stderr.
 * Strings may come from hostile guests and images; none reaches a terminal unescaped. */
#pragma once

#include "src/cli/cli.h"

#include <libsmartcols.h>

/* Full. Control characters and line breaks as \n, \t, \x1b; what is no UTF-8 as \xff. */
char *
text_escape (const char *text);
/* Appends a line: formatted, then escaped as a whole. */
void
text_line (GString *out, const char *format, ...) G_GNUC_PRINTF (2, 3);
/* "NAME  value", where there is a value. */
void
text_fact (GString *out, const char *name, const char *value);
/* @text, wrapped at @width columns, each line after @indent blanks. */
void
text_wrap (GString *out, const char *text, guint indent, guint width);
/* Full. @text in an ANSI @colour such as "1;31", or as it is. */
char *
text_colour (gboolean colour, const char *ansi, const char *text);

/* All of @text to stdout, or an error: stdout may be closed or full. */
gboolean
out_text (Cli *cli, const char *text, GError **error);
/* One document, with a line break at its end. */
gboolean
out_document (Cli *cli, const char *document, GError **error);
/* The document as it is for -o json; else what @to_text makes of it. */
typedef void (*ToText) (Cli *cli, Json *document, GString *out);
gboolean
out_either (Cli *cli, const char *document, ToText to_text, GError **error);

/* A line on stderr, for people; not with -q, and not where stderr is for programs. */
void
note (Cli *cli, const char *format, ...) G_GNUC_PRINTF (2, 3);
/* A line on stderr in any case: it was asked for. */
void
say (Cli *cli, const char *format, ...) G_GNUC_PRINTF (2, 3);
/* Three lines at most, or the document rechain.error/1. */
void
print_error (Cli *cli, const GError *error);
/* By the table of the interface contract; @error may be of any domain. */
RechainError
error_code (const GError *error);
int
exit_code_of (RechainError code);

/* ---- tables ---- */

typedef struct libscols_table Table;
typedef struct libscols_line Row;

static inline void
table_free (Table *table)
{
  scols_unref_table (table);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC (Table, table_free)

/* @columns: names joined by blanks; one that begins with ">" is aligned right, with "+" shows the
 * tree. */
Table *
table_new (Cli *cli, const char *columns);
/* One value for each column, NULL: empty. @parent: nullable. */
Row *
table_add (Table *table, Row *parent, ...);
void
table_print (Table *table, GString *out);

/* ---- values out of documents; full where they are made ---- */

double
json_get_real (Json *object, const char *key);
/* "64.0 MiB", "" where the key is absent. */
char *
size_of (Json *object, const char *key);
/* "45%", "" where nothing is known. */
char *
percent_of (guint64 current, guint64 total);
/* The strings of an array, joined. */
char *
joined (Json *array, const char *separator);
