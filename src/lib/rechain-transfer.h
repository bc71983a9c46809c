/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Volumes on their way between hosts. */
#pragma once

#include <rechain/rechain-controller.h>
#include <rechain/rechain-host.h>
#include <rechain/rechain-storage.h>
#include <rechain/rechain-values.h>

G_BEGIN_DECLS

/**
 * rechain_storage_offer_async:
 * @storage: a storage
 * @request: of the kind copy, with its "source", and if wanted "source-format" and "archive"
 * @cancellable: (nullable): a cancellable
 * @callback: called with the offer
 * @user_data: data of @callback
 *
 * What another host must know of a volume to copy it. The volume must be free to be read, as for a copy here.
 */
RECHAIN_API void rechain_storage_offer_async (RechainStorage *storage,
                                              const RechainVolumeRequest *request,
                                              GCancellable *cancellable, GAsyncReadyCallback callback,
                                              gpointer user_data);
/**
 * rechain_storage_offer_finish:
 * @storage: a storage
 * @result: the result
 * @error: return location: as rechain_storage_plan_finish()
 *
 * Returns: (transfer full): the document rechain.offer/1
 */
RECHAIN_API char *rechain_storage_offer_finish (RechainStorage *storage, GAsyncResult *result,
                                                GError **error);
/**
 * rechain_storage_offer:
 * @storage: a storage
 * @request: what is wanted
 * @cancellable: (nullable): a cancellable
 * @error: return location
 *
 * Returns: (transfer full): the document rechain.offer/1
 */
RECHAIN_API char *rechain_storage_offer (RechainStorage *storage, const RechainVolumeRequest *request,
                                         GCancellable *cancellable, GError **error);
/**
 * rechain_storage_check_offer:
 * @storage: a storage
 * @offer: the document that it made
 * @error: return location: %RECHAIN_ERROR_REFUSED where the volume was changed since
 *
 * Returns: %TRUE if it can be sent
 */
RECHAIN_API gboolean rechain_storage_check_offer (RechainStorage *storage, const char *offer,
                                                  GError **error);
/**
 * rechain_storage_send_async:
 * @storage: a storage
 * @offer: the document that it made
 * @from: begin at this byte of what is sent
 * @bytes_per_second: limit, 0 = unlimited
 * @output: descriptor of a pipe or socket
 * @cancellable: (nullable): unused
 * @callback: called when everything is sent, or can no longer be
 * @user_data: data of @callback
 *
 * Sends the contents as checked frames, without holes.
 */
RECHAIN_API void rechain_storage_send_async (RechainStorage *storage, const char *offer, guint64 from,
                                             guint64 bytes_per_second, int output,
                                             GCancellable *cancellable, GAsyncReadyCallback callback,
                                             gpointer user_data);
/**
 * rechain_storage_send_finish:
 * @storage: a storage
 * @result: the result
 * @error: return location
 *
 * Returns: %TRUE if everything was sent
 */
RECHAIN_API gboolean rechain_storage_send_finish (RechainStorage *storage, GAsyncResult *result,
                                                  GError **error);
/**
 * rechain_volume_request_set_offer:
 * @request: a request of the kind copy
 * @offer: the document that another host made
 * @from: (nullable): that host, of which the data is asked for; %NULL: the operation's signal "feed-wanted"
 *   (with the byte to begin at) says when somebody must bring it, with rechain_controller_feed_async()
 * @error: return location: %RECHAIN_ERROR_USAGE
 *
 * The source is what another host offers.
 *
 * Returns: %TRUE if it is an offer
 */
RECHAIN_API gboolean rechain_volume_request_set_offer (RechainVolumeRequest *request, const char *offer,
                                                       RechainHost *from, GError **error);
/**
 * rechain_controller_feed_async:
 * @controller: a controller
 * @operation: id of an operation of another process that waits for data
 * @input: descriptor that the data can be read from
 * @cancellable: (nullable): unused
 * @callback: called when the descriptor is no longer needed
 * @user_data: data of @callback
 */
RECHAIN_API void rechain_controller_feed_async (RechainController *controller, const char *operation,
                                                int input, GCancellable *cancellable,
                                                GAsyncReadyCallback callback, gpointer user_data);
/**
 * rechain_controller_feed_finish:
 * @controller: a controller
 * @result: the result
 * @error: return location: %RECHAIN_ERROR_NOT_FOUND where it does not wait
 *
 * Returns: %TRUE if the operation has taken it
 */
RECHAIN_API gboolean rechain_controller_feed_finish (RechainController *controller,
                                                     GAsyncResult *result, GError **error);
/**
 * rechain_host_offer_volume:
 * @host: a host
 * @offer: the document of a volume of this host
 * @storage: the storage that made it
 * @bytes_per_second: limit, 0 = unlimited
 *
 * The next command, a "vol copy --offer", may ask for that volume, and for no other.
 */
RECHAIN_API void rechain_host_offer_volume (RechainHost *host, const char *offer,
                                            RechainStorage *storage, guint64 bytes_per_second);
/**
 * rechain_host_offer_from_host:
 * @host: a host
 * @offer: the document of a volume of another host
 * @from: that host
 *
 * The same for a volume of a third host; its data passes through here.
 */
RECHAIN_API void rechain_host_offer_from_host (RechainHost *host, const char *offer, RechainHost *from);

/**
 * rechain_state_name:
 * @state: a state
 *
 * Returns: (transfer none): its word, for instance "running"
 */
RECHAIN_API const char *rechain_state_name (RechainState state);
/**
 * rechain_version:
 *
 * Returns: (transfer none): the version of the library, for instance "0.1.0"
 */
RECHAIN_API const char *rechain_version (void);

G_END_DECLS
