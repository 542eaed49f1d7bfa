/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/method.h"

#include <stdio.h>
#include <string.h>

#include "election.pb-c.h"
#include "engine/handlers.h"
#include "lib/test.h"
#include "lock.pb-c.h"
#include "rpc.pb-c.h"

static const ProtobufCServiceDescriptor *const SERVICES[] = {
	&pb__kv__descriptor,          &pb__watch__descriptor,    &pb__lease__descriptor,
	&pb__cluster__descriptor,     &pb__auth__descriptor,     &pb__lock__descriptor,
	&pb__maintenance__descriptor, &pb__election__descriptor,
};

START_TEST(every_rpc_has_a_row_and_every_row_an_rpc)
{
	size_t count = 0;

	for (size_t i = 0; i < sizeof SERVICES / sizeof SERVICES[0]; i++) {
		const ProtobufCServiceDescriptor *service = SERVICES[i];

		for (unsigned j = 0; j < service->n_methods; j++, count++) {
			const struct method *method =
				method_by_name(service->short_name, service->methods[j].name);
			char path[128];

			ck_assert_msg(method != NULL, "%s.%s has no row", service->name,
			              service->methods[j].name);
			ck_assert_ptr_eq(method->input, service->methods[j].input);
			ck_assert_ptr_eq(method->output, service->methods[j].output);
			snprintf(path, sizeof path, "/%s/%s", service->name, method->name);
			ck_assert_str_eq(method->grpc_path, path);
		}
	}
	/* No row is there twice, or the look-up would have found one of two. */
	ck_assert_uint_eq(count, method_count());
}
END_TEST

START_TEST(a_row_is_found_by_all_its_names)
{
	const struct method *method = method_at((size_t)_i);

	ck_assert_uint_eq(method->index, (size_t)_i);
	ck_assert_ptr_eq(method_by_name(method->service, method->name), method);
	ck_assert_ptr_eq(method_by_grpc_path(method->grpc_path, strlen(method->grpc_path)), method);
	ck_assert_ptr_eq(method_by_input(method->input)->input, method->input);
	for (size_t i = 0; i < 2; i++) {
		const char *path = method->paths[i];

		if (path == NULL)
			continue;
		ck_assert_int_eq(strncmp(path, "/v3/", 4), 0);
		ck_assert_ptr_eq(method_by_path(path, strlen(path)), method);
		ck_assert_ptr_null(method_by_path(path, strlen(path) - 1));
		ck_assert_ptr_null(method_by_grpc_path(path, strlen(path)));
	}
	ck_assert_ptr_null(method_by_path(method->grpc_path, strlen(method->grpc_path)));
}
END_TEST

START_TEST(streams_are_of_the_kind_stream)
{
	const struct method *method = method_at((size_t)_i);

	ck_assert_int_eq(method->kind == METHOD_STREAM, method->response_stream);
	ck_assert(!method->request_stream || method->response_stream);
}
END_TEST

START_TEST(unknown_names_are_not_found)
{
	ck_assert_ptr_null(method_by_path("", 0));
	ck_assert_ptr_null(method_by_path("/v3/kv/Range", 12));
	ck_assert_ptr_null(method_by_path("/v3/kv/range/", 13));
	ck_assert_ptr_null(method_by_path("/v3/kv/range\0", 13));
	ck_assert_ptr_null(method_by_name("KV", "Nope"));
	ck_assert_ptr_null(method_by_name("Nope", "Range"));
	ck_assert_ptr_null(method_by_input(&pb__key_value__descriptor));
}
END_TEST

START_TEST(leases_have_their_old_paths)
{
	ck_assert_ptr_eq(method_by_path("/v3/kv/lease/revoke", 19), method_by_name("Lease", "LeaseRevoke"));
	ck_assert_ptr_eq(method_by_path("/v3/kv/lease/leases", 19), method_by_name("Lease", "LeaseLeases"));
	ck_assert_ptr_eq(method_by_path("/v3/kv/lease/timetolive", 23),
	                 method_by_name("Lease", "LeaseTimeToLive"));
}
END_TEST

START_TEST(the_first_row_stands_for_a_shared_request_type)
{
	ck_assert_str_eq(method_by_input(&pb__range_request__descriptor)->name, "Range");
	ck_assert_str_eq(method_by_input(&pb__leader_request__descriptor)->name, "Leader");
}
END_TEST

START_TEST(rows_name_their_handlers)
{
	ck_assert(method_by_name("KV", "Put")->run == kv_put);
	ck_assert(method_by_name("Cluster", "MemberList")->run == cluster_member_list);
	ck_assert(method_by_name("KV", "RangeStream")->run == NULL);
}
END_TEST

/* The codecs do without floating point, maps and defaults of one's own. */
static void check_type(const ProtobufCMessageDescriptor *type, unsigned depth)
{
	for (unsigned i = 0; i < type->n_fields && depth < 8; i++) {
		const ProtobufCFieldDescriptor *field = &type->fields[i];

		ck_assert_msg(field->type != PROTOBUF_C_TYPE_FLOAT && field->type != PROTOBUF_C_TYPE_DOUBLE,
		              "%s.%s", type->name, field->name);
		ck_assert_msg(field->label != PROTOBUF_C_LABEL_REQUIRED, "%s.%s", type->name, field->name);
		if (field->type == PROTOBUF_C_TYPE_MESSAGE)
			check_type(field->descriptor, depth + 1);
	}
}

START_TEST(messages_use_only_what_the_codecs_know)
{
	check_type(method_at((size_t)_i)->input, 0);
	check_type(method_at((size_t)_i)->output, 0);
}
END_TEST

static Suite *make_suite(void)
{
	Suite *suite = suite_create("method");
	TCase *tcase = tcase_create("method");

	tcase_add_test(tcase, every_rpc_has_a_row_and_every_row_an_rpc);
	tcase_add_loop_test(tcase, a_row_is_found_by_all_its_names, 0, (int)method_count());
	tcase_add_loop_test(tcase, streams_are_of_the_kind_stream, 0, (int)method_count());
	tcase_add_test(tcase, unknown_names_are_not_found);
	tcase_add_test(tcase, leases_have_their_old_paths);
	tcase_add_test(tcase, the_first_row_stands_for_a_shared_request_type);
	tcase_add_test(tcase, rows_name_their_handlers);
	tcase_add_loop_test(tcase, messages_use_only_what_the_codecs_know, 0, (int)method_count());
	suite_add_tcase(suite, tcase);
	return suite;
}

int main(void)
{
	method_init();
	method_init(); /* again does no harm */
	return test_run(make_suite());
}
